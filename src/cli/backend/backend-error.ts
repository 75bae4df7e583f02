/** What went wrong with a backend, in one line that tells the user what to do and shows no credentials. */
import { CommandError } from '../command-error.js'
import type { BackendUrl, ServerUrl } from './backend-url.js'

export function backendError(url: BackendUrl, error: unknown): CommandError {
  return new CommandError(explain(url, error), 1, { cause: error })
}

function explain(url: BackendUrl, error: unknown): string {
  const text = messageOf(error)
  // How the backends say that their client library is not installed.
  const missing = /npm install/.test(text)
  switch (url.kind) {
    case 'memory':
      return text
    case 'sqlite':
      return missing
        ? 'SQLite needs a package that is not installed: npm install better-sqlite3, or use --backend memory:'
        : `cannot open sqlite:${url.file}: ${text}`
    default: {
      const [name, library] = url.kind === 'redis' ? ['Redis', 'ioredis'] : ['PostgreSQL', 'pg']
      return missing
        ? `${name} needs a package that is not installed: npm install ${library}`
        : `cannot use ${name} at ${url.host}: ${reasonOf(url, error, text)}`
    }
  }
}

/** By error code, or what the client libraries write in its place. */
const REASONS: [RegExp, string][] = [
  [/ECONNREFUSED/, 'connection refused'],
  [/ENOTFOUND|EAI_AGAIN/, 'there is no such host'],
  [/EHOSTUNREACH|ENETUNREACH/, 'there is no way to that host'],
  [/ETIMEDOUT|timeout|timed out|no answer within/i, 'no answer'],
  [/WRONGPASS|NOAUTH|28P01|28000|invalid password/i, 'user or password refused'],
  [/3D000/, 'there is no such database'],
]

/** Each client library words it differently, some with the address and its password. */
function reasonOf({ secrets }: ServerUrl, error: unknown, text: string): string {
  const codes = codesOf(error).join(' ')
  const known = REASONS.find(([pattern]) => pattern.test(`${codes} ${text}`))
  if (known) return known[1]
  const [line = ''] = secrets.reduce((shown, secret) => shown.replaceAll(secret, '***'), text).split('\n')
  return line
}

/** Codes of an error and of its causes. */
function codesOf(error: unknown): string[] {
  const codes: string[] = []
  for (let at = error; at instanceof Error; at = causeOf(at)) if ('code' in at) codes.push(String(at.code))
  return codes
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // `Unavailable` says less than its cause. Node's error for a host with two addresses has no message at all.
  const cause = error.name === 'Unavailable' || error.message === '' ? causeOf(error) : undefined
  return cause === undefined ? error.message || error.name : messageOf(cause)
}

function causeOf(error: Error): unknown {
  return error instanceof AggregateError ? error.errors[0] : error.cause
}
