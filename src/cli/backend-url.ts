/** `--backend`: one word that says where sessions live. */
import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import type { Backend } from '../backend/backend.js'
import { Failure } from './failure.js'
import { stateFolder } from './state-folder.js'

export type BackendUrl = { kind: 'memory' } | { kind: 'sqlite'; file: string }

const KNOWN = 'memory: or sqlite:<file>'
const NOT_YET = new Set(['redis', 'rediss', 'valkey', 'postgres', 'postgresql', 'nats'])

/** Throws a {@link Failure}; its text never shows more than the scheme, because the rest may hold a password. */
export function parseBackendUrl(text: string): BackendUrl {
  const colon = text.indexOf(':')
  const scheme = colon < 0 ? '' : text.slice(0, colon).toLowerCase()
  const rest = text.slice(colon + 1)
  if (scheme === 'memory') {
    if (rest !== '') throw new Failure('bad backend URL: nothing can follow memory:', 2)
    return { kind: 'memory' }
  }
  if (scheme === 'sqlite') return { kind: 'sqlite', file: sqliteFile(rest) }
  if (NOT_YET.has(scheme)) throw new Failure(`this version has no ${scheme}: backend; use ${KNOWN}`, 2)
  throw new Failure(`bad backend URL: ${colon < 0 ? 'it' : `${scheme}: is unknown, it`} must be ${KNOWN}`, 2)
}

/**
 * The file for a server that was given none. It depends on the command line and the folder it is run in: sessions of one
 * server make no sense to another, and the same command finds its sessions again.
 */
export function defaultFile(command: readonly string[], cwd = process.cwd()): string {
  const name = basename(command[0] ?? '').replace(/[^\w.-]/g, '_')
  const hash = createHash('sha256')
    .update(JSON.stringify([cwd, ...command]))
    .digest('hex')
    .slice(0, 12)
  return join(stateFolder(), `${name}-${hash}.db`)
}

/** Opens it far enough to know that it works. */
export async function openBackend(url: BackendUrl): Promise<Backend> {
  if (url.kind === 'memory') {
    const { memory } = await import('../backend/memory.js')
    return memory()
  }
  const { file } = url
  try {
    const { sqlite } = await import('../backend/sqlite.js')
    const backend = sqlite({ file })
    await backend.ping?.()
    return backend
  } catch (error) {
    if (isMissing(error, 'better-sqlite3')) {
      const text = 'SQLite needs a package that is not installed: npm install better-sqlite3, or use --backend memory:'
      throw new Failure(text, 1, { cause: error })
    }
    throw new Failure(`cannot open sqlite:${file}: ${messageOf(error)}`, 1, { cause: error })
  }
}

function sqliteFile(rest: string): string {
  // As in a URL without a host: sqlite:///var/lib/roam.db
  const path = rest.replace(/^\/\/(?=\/)/, '')
  if (path === '' || path.startsWith('//') || path.startsWith(':')) {
    throw new Failure('bad backend URL: sqlite: must be followed by a file, e.g. sqlite:./sessions.db', 2)
  }
  // A shell leaves a tilde alone that does not begin a word.
  return /^~[\\/]/.test(path) ? join(homedir(), path.slice(2)) : resolve(path)
}

function isMissing(error: unknown, name: string): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    if ('code' in at && /^(ERR_)?MODULE_NOT_FOUND$/.test(String(at.code)) && at.message.includes(name)) return true
  }
  return false
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
