/** The URL of a backend, as `--backend` takes it. */
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { CommandError } from '../command-error.js'

export type BackendUrl = { kind: 'memory' } | { kind: 'sqlite'; file: string } | ServerUrl

/** The URL of a database server. */
export interface ServerUrl {
  kind: 'redis' | 'postgres'
  /** As the client libraries take it. May hold a password: never show it. */
  url: string
  /** Scheme, host, port and database: safe to show. */
  name: string
  /** Host and port: safe to show. */
  host: string
  /** Passwords of the URL as they are written there, and decoded: to be cut out of texts that are shown. */
  secrets: readonly string[]
}

/** URLs of backends that other processes can use, too; for texts. */
export const SHARED_BACKENDS = 'sqlite:<file>, redis://<host> or postgres://<host>/<database>'
/** URLs of all backends; for texts. */
export const BACKENDS = `memory:, ${SHARED_BACKENDS}`
/** Our schemes, and what the client libraries call them: to them Valkey is a Redis. */
const REDIS: Readonly<Record<string, string>> = {
  redis: 'redis',
  rediss: 'rediss',
  valkey: 'redis',
  valkeys: 'rediss',
}
const POSTGRES = new Set(['postgres', 'postgresql'])

/** @throws CommandError whose text shows only the scheme: the rest may hold a password. */
export function parseBackendUrl(text: string): BackendUrl {
  const colon = text.indexOf(':')
  const scheme = colon < 0 ? '' : text.slice(0, colon).toLowerCase()
  const rest = text.slice(colon + 1)
  if (scheme === 'memory') {
    if (rest !== '') throw new CommandError('bad backend URL: nothing can follow memory:', 2)
    return { kind: 'memory' }
  }
  if (scheme === 'sqlite') return { kind: 'sqlite', file: sqliteFile(rest) }
  const redis = REDIS[scheme]
  if (redis !== undefined) return redisAddress(scheme, `${redis}:${rest}`)
  if (POSTGRES.has(scheme)) return postgresAddress(scheme, `${scheme}:${rest}`)
  if (scheme === 'nats') throw new CommandError(`this version has no nats: backend yet; use ${BACKENDS}`, 2)
  // Without slashes, what stands before the colon may be a user instead of a scheme.
  const it = rest.startsWith('//') ? `${scheme}: is unknown, it` : 'it'
  throw new CommandError(`bad backend URL: ${it} must be ${BACKENDS}`, 2)
}

/** For the log; shows no password. */
export function displayName(url: BackendUrl): string {
  if (url.kind === 'memory') return 'memory: (sessions end with this process)'
  return url.kind === 'sqlite' ? `sqlite:${url.file}` : url.name
}

function sqliteFile(rest: string): string {
  // sqlite:///var/lib/roam.db is a URL without a host.
  const path = rest.replace(/^\/\/(?=\/)/, '')
  if (path === '' || path.startsWith('//') || path.startsWith(':')) {
    throw new CommandError('bad backend URL: sqlite: must be followed by a file, e.g. sqlite:./sessions.db', 2)
  }
  // A shell expands a tilde only at the start of a word, so not this one.
  return /^~[\\/]/.test(path) ? join(homedir(), path.slice(2)) : resolve(path)
}

function redisAddress(scheme: string, url: string): ServerUrl {
  const form = '[user:password@]host[:port][/database number]'
  const parsed = parseAddress(scheme, url, form)
  if (!parsed.hostname || !/^\/?\d*$/.test(parsed.pathname)) throw notAnAddress(scheme, form)
  return serverUrl('redis', url, parsed, parsed.hostname, '6379')
}

function postgresAddress(scheme: string, url: string): ServerUrl {
  const form = '[user:password@]host[:port]/database'
  const parsed = parseAddress(scheme, url, form)
  // A URL without a host may name a host or a socket's folder in ?host=, as libpq has it.
  return serverUrl('postgres', url, parsed, parsed.hostname || parsed.searchParams.get('host') || 'localhost', '5432')
}

function parseAddress(scheme: string, url: string, form: string): URL {
  if (!url.slice(url.indexOf(':')).startsWith('://') || !URL.canParse(url)) throw notAnAddress(scheme, form)
  const parsed = new URL(url)
  // A "#", or an "@" after the host, means a password that is not percent-encoded: its beginning was taken for host and
  // port, which are shown.
  if (parsed.hash || /@/.test(parsed.pathname + parsed.search)) throw notAnAddress(scheme, form)
  return parsed
}

function notAnAddress(scheme: string, form: string): CommandError {
  const hint = 'with what is special in user or password percent-encoded'
  return new CommandError(`bad backend URL: write ${scheme}://${form}, ${hint}`, 2)
}

function serverUrl(kind: ServerUrl['kind'], url: string, parsed: URL, hostname: string, port: string): ServerUrl {
  const host = `${hostname}:${parsed.port || port}`
  const name = `${parsed.protocol}//${host}${parsed.pathname === '/' ? '' : parsed.pathname}`
  return { kind, url, name, host, secrets: secretsOf(parsed) }
}

function secretsOf({ password, searchParams }: URL): string[] {
  return [password, decoded(password), searchParams.get('password') ?? ''].filter((secret) => secret !== '')
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
