/** `mcp-roam sessions`: lists, shows and deletes the sessions of a backend, also while nodes are using it. */
import { existsSync } from 'node:fs'
import type { Writable } from 'node:stream'
import { SkippedRecords } from '../../backend/record.js'
import { createSessionHandler, type SessionDirectory } from '../../handler.js'
import type { SessionInfo } from '../../session/session.js'
import { backendError } from '../backend/backend-error.js'
import { parseBackendUrl, SHARED_BACKENDS } from '../backend/backend-url.js'
import { openBackend } from '../backend/open-backend.js'
import { CommandError } from '../command-error.js'
import { LineWriter } from '../output/line-writer.js'
import { printable, Table } from '../output/table.js'

export interface SessionsOptions {
  backend: string
  json: boolean
}

export async function listSessions({ backend, json }: SessionsOptions, stdout: Writable): Promise<void> {
  const output = new LineWriter(stdout)
  await withSessions(backend, async (sessions) => {
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
    for await (const session of sessions.list()) {
      if (json) output.line(JSON.stringify(plain(session)))
      else table.row(cells(session))
      await output.room()
      if (output.closed) break
    }
    if (!json) table.end()
    await output.end()
  })
}

export async function showSession(id: string, { backend, json }: SessionsOptions, stdout: Writable): Promise<void> {
  const output = new LineWriter(stdout)
  await withSessions(backend, async (sessions) => {
    const session = await sessions.get(id)
    if (!session) throw unknownSession(id)
    if (json) output.line(JSON.stringify(plain(session)))
    else for (const [name, value] of facts(session)) output.line(`${name.padEnd(15)}${printable(value)}`)
    await output.end()
  })
}

export async function deleteSession(id: string, { backend, json }: SessionsOptions, stdout: Writable): Promise<void> {
  const output = new LineWriter(stdout)
  await withSessions(backend, async (sessions) => {
    if (!(await sessions.delete(id))) throw unknownSession(id)
    output.line(json ? JSON.stringify({ id, deleted: true }) : `deleted ${printable(id)}`)
    await output.end()
  })
}

/** Joins the cluster as a node that serves nothing: the nodes that serve are told when a session is deleted. */
async function withSessions(backend: string, use: (sessions: SessionDirectory) => Promise<void>): Promise<void> {
  const url = parseBackendUrl(backend)
  if (url.kind === 'memory')
    throw new CommandError(`memory: is seen by its own process alone; use ${SHARED_BACKENDS}`, 2)
  // SQLite would create the file.
  if (url.kind === 'sqlite' && !existsSync(url.file)) throw new CommandError(`no such file: ${url.file}`)
  const never = () => {
    throw new Error('nothing is served here')
  }
  const handler = createSessionHandler(never, { backend: await openBackend(url), onerror: tellSkipped })
  try {
    await use(handler.sessions)
  } catch (error) {
    throw error instanceof CommandError ? error : backendError(url, error)
  } finally {
    await handler.close()
  }
}

/** All other errors end the command. */
function tellSkipped(error: Error): void {
  if (!(error instanceof SkippedRecords)) return
  const what = error.message.replace(/^backend: /, '')
  const ids = error.ids().join(', ') || 'of unknown ids'
  process.stderr.write(`mcp-roam: ${what} that cannot be read; mcp-roam sessions delete <id> removes one: ${ids}\n`)
}

function unknownSession(id: string): CommandError {
  return new CommandError(`no such session: ${printable(id)}`)
}

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
