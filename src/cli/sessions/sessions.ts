/** `mcp-roam sessions`: lists, shows and deletes the sessions of a backend, also while nodes are using it. */
import { existsSync } from 'node:fs'
import type { Writable } from 'node:stream'
import type { Backend, SessionRecord } from '../../backend/backend.js'
import { bounded } from '../../backend/bounded.js'
import { problemWith } from '../../backend/record.js'
import { type Encryption, Keyring } from '../../backend/sealed/keyring.js'
import { sealed } from '../../backend/sealed.js'
import { Unreadable } from '../../backend/unavailable.js'
import { createSessionHandler, type SessionDirectory } from '../../handler.js'
import type { SessionInfo } from '../../session/session.js'
import { infoOf } from '../../session/view.js'
import { backendError } from '../backend/backend-error.js'
import { parseBackendUrl, SHARED_BACKENDS } from '../backend/backend-url.js'
import { openBackend } from '../backend/open-backend.js'
import { CommandError } from '../command-error.js'
import { encryptionOf } from '../encryption.js'
import { LineWriter } from '../output/line-writer.js'
import { printable, Table } from '../output/table.js'

export interface SessionsOptions {
  backend: string
  encryptionKeysFile?: string
  json: boolean
}

/** Longest wait for one answer of the backend, in ms. */
const TIMEOUT = 5000

export async function listSessions(options: SessionsOptions, stdout: Writable): Promise<void> {
  const { json } = options
  const output = new LineWriter(stdout)
  await withBackend(options, async (backend, encryption) => {
    const table = new Table(
      [
        { title: 'ID', width: 36 },
        { title: 'CLIENT', max: 40 },
        { title: 'PROTOCOL' },
        { title: 'CREATED' },
        { title: 'SUBSCRIPTIONS', right: true },
      ],
      (line) => output.line(line),
    )
    const stored = sealed(backend, new Keyring(encryption), ignore)
    for await (const record of bounded(stored, TIMEOUT, ignore).sessions.list('all')) {
      if (json) output.line(JSON.stringify(plainOf(record)))
      else table.row(cellsOf(record))
      await output.room()
      if (output.closed) break
    }
    if (!json) table.end()
    await output.end()
  })
}

export async function showSession(id: string, options: SessionsOptions, stdout: Writable): Promise<void> {
  const { json } = options
  const output = new LineWriter(stdout)
  await withSessions(options, async (sessions) => {
    const session = await sessions.get(id)
    if (!session) throw unknownSession(id)
    if (json) output.line(JSON.stringify(plain(session)))
    else for (const [name, value] of facts(session)) output.line(`${name.padEnd(15)}${printable(value)}`)
    await output.end()
  })
}

export async function deleteSession(id: string, options: SessionsOptions, stdout: Writable): Promise<void> {
  const { json } = options
  const output = new LineWriter(stdout)
  await withSessions(options, async (sessions) => {
    if (!(await sessions.delete(id))) throw unknownSession(id)
    output.line(json ? JSON.stringify({ id, deleted: true }) : `deleted ${printable(id)}`)
    await output.end()
  })
}

/** Joins the cluster as a node that serves nothing: the nodes that serve are told when a session is deleted. */
async function withSessions(
  options: SessionsOptions,
  use: (sessions: SessionDirectory) => Promise<void>,
): Promise<void> {
  const never = () => {
    throw new Error('nothing is served here')
  }
  await withBackend(options, async (backend, encryption) => {
    const handler = createSessionHandler(never, { backend, ...(encryption && { encryption }) })
    try {
      await use(handler.sessions)
    } finally {
      await handler.close()
    }
  })
}

async function withBackend(
  { backend: address, encryptionKeysFile }: SessionsOptions,
  use: (backend: Backend, encryption: Encryption | undefined) => Promise<void>,
): Promise<void> {
  const encryption = encryptionOf(encryptionKeysFile)
  const url = parseBackendUrl(address)
  if (url.kind === 'memory')
    throw new CommandError(`memory: is seen by its own process alone; use ${SHARED_BACKENDS}`, 2)
  // SQLite would create the file.
  if (url.kind === 'sqlite' && !existsSync(url.file)) throw new CommandError(`no such file: ${url.file}`)
  const backend = await openBackend(url)
  try {
    await use(backend, encryption)
  } catch (error) {
    if (error instanceof Unreadable) throw new CommandError(error.message, 1, { cause: error })
    throw error instanceof CommandError ? error : backendError(url, error)
  } finally {
    await backend.close?.()
  }
}

function unknownSession(id: string): CommandError {
  return new CommandError(`no such session: ${printable(id)}`)
}

/** What cannot be read says why. */
function plainOf(record: SessionRecord) {
  const problem = problemWith(record)
  return problem ? { ...open(record), unreadable: problem.message } : plain(infoOf(record))
}

function cellsOf(record: SessionRecord): string[] {
  if (!problemWith(record)) return cells(infoOf(record))
  const { id, createdAt } = open(record)
  return [id, '(unreadable)', '-', formatTime(createdAt), '-']
}

/** What of a session can be read in any case. */
function open({ id, createdAt }: SessionRecord): Pick<SessionInfo, 'id' | 'createdAt'> {
  return { id, createdAt: new Date(createdAt) }
}

function ignore(): void {}

function plain({ id, clientInfo, clientCapabilities, protocolVersion, createdAt, subscriptions }: SessionInfo) {
  return { id, clientInfo, clientCapabilities, protocolVersion, createdAt, subscriptions }
}

function cells({ id, clientInfo, protocolVersion, createdAt, subscriptions }: SessionInfo): string[] {
  return [id, clientName(clientInfo), protocolVersion, formatTime(createdAt), String(subscriptions.length)]
}

function facts(session: SessionInfo): [string, string][] {
  const { id, clientInfo, clientCapabilities, protocolVersion, createdAt, subscriptions } = session
  return [
    ['id', id],
    ['client', clientName(clientInfo)],
    ['protocol', protocolVersion],
    ['created', formatTime(createdAt)],
    ['capabilities', Object.keys(clientCapabilities).join(', ') || 'none'],
    ['subscriptions', String(subscriptions.length)],
    ...subscriptions.map((uri): [string, string] => ['', uri]),
  ]
}

/** Clients may send anything as their name and version. */
function clientName(clientInfo: SessionInfo['clientInfo']): string {
  return [clientInfo?.name, clientInfo?.version].filter((part) => typeof part === 'string').join(' ') || '-'
}

/** To the second, e.g. 2025-11-25T09:30:00Z. */
function formatTime(date: Date): string {
  return Number.isNaN(date.getTime()) ? '-' : date.toISOString().replace(/\.\d+/, '')
}
