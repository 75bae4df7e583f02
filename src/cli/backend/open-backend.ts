/** From the word that names a backend to one that is known to work. */
import type { Backend } from '../../backend/backend.js'
import { Failure } from '../command-error.js'
import type { BackendUrl, ServerUrl } from './backend-url.js'

interface Made {
  backend: Backend
  /** Rejects if it is of no use. */
  reach(): Promise<void>
}

/** Opens it far enough to know that it works. Throws a {@link Failure}. */
export async function openBackend(url: BackendUrl): Promise<Backend> {
  const { backend, reach } = await make(url)
  try {
    await reach()
    return backend
  } catch (error) {
    await backend.close?.().catch(() => {})
    throw failureOf(url, error)
  }
}

/** One that connects when it is used: for a process whose parent has found that it works. */
export async function makeBackend(url: BackendUrl): Promise<Backend> {
  return (await make(url)).backend
}

/** What went wrong with a backend, in words for its user. */
export function failureOf(url: BackendUrl, error: unknown): Failure {
  const options = { cause: error }
  const text = textOf(error)
  switch (url.kind) {
    case 'memory':
      return new Failure(text, 1, options)
    case 'sqlite':
      if (/npm install/.test(text)) {
        return new Failure(
          'SQLite needs a package that is not installed: npm install better-sqlite3, or use --backend memory:',
          1,
          options,
        )
      }
      return new Failure(`cannot open sqlite:${url.file}: ${text}`, 1, options)
    default: {
      const [name, library] = url.kind === 'redis' ? ['Redis', 'ioredis'] : ['PostgreSQL', 'pg']
      if (/npm install/.test(text)) {
        return new Failure(`${name} needs a package that is not installed: npm install ${library}`, 1, options)
      }
      return new Failure(`cannot use ${name} at ${url.host}: ${reasonOf(url, error, text)}`, 1, options)
    }
  }
}

async function make(url: BackendUrl): Promise<Made> {
  switch (url.kind) {
    case 'memory': {
      const { memory } = await import('../../backend/memory.js')
      return { backend: memory(), reach: async () => {} }
    }
    case 'sqlite': {
      const { sqlite } = await import('../../backend/sqlite.js')
      const backend = sqlite({ file: url.file })
      return { backend, reach: async () => backend.ping?.() }
    }
    case 'redis': {
      const { redis } = await import('../../backend/redis.js')
      const backend = redis({ url: url.url })
      return { backend, reach: () => backend.ping() }
    }
    case 'postgres': {
      const { postgres } = await import('../../backend/postgres.js')
      const backend = postgres({ url: url.url })
      // Not only that it answers, but that the tables can be made: rather said now than with each request.
      return { backend, reach: () => backend.migrate() }
    }
  }
}

const REASONS: [RegExp, string][] = [
  [/ECONNREFUSED/, 'connection refused'],
  [/ENOTFOUND|EAI_AGAIN/, 'there is no such host'],
  [/EHOSTUNREACH|ENETUNREACH/, 'there is no way to that host'],
  [/ETIMEDOUT|timeout|timed out|no answer within/i, 'no answer'],
  [/WRONGPASS|NOAUTH|28P01|28000|invalid password/i, 'user or password refused'],
  [/3D000/, 'there is no such database'],
]

/** The libraries say it in many ways, some with more than should be shown. */
function reasonOf({ secrets }: ServerUrl, error: unknown, text: string): string {
  const code = codesOf(error).join(' ')
  const known = REASONS.find(([pattern]) => pattern.test(`${code} ${text}`))
  if (known) return known[1]
  const [line = ''] = secrets.reduce((shown, secret) => shown.replaceAll(secret, '***'), text).split('\n')
  return line
}

/** Of an error and of what caused it. */
function codesOf(error: unknown): string[] {
  const codes: string[] = []
  for (let at = error; at instanceof Error; at = innerOf(at)) if ('code' in at) codes.push(String(at.code))
  return codes
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // What the handler's time limit wraps says less than what it wraps; Node's error for a host with two addresses says nothing.
  const inner = error.name === 'Unavailable' || error.message === '' ? innerOf(error) : undefined
  return inner === undefined ? error.message || error.name : textOf(inner)
}

function innerOf(error: Error): unknown {
  return error instanceof AggregateError ? error.errors[0] : error.cause
}
