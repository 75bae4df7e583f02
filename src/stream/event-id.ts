/**
 * Event ids: opaque cursors for clients, `<session tag>.<stream>.<position>` for us, and on the standalone stream the event's mark
 * after that. The tag is what makes one session's event id mean nothing in another one.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { StreamInit } from '../backend/backend.js'

/** The stream that GET opens; each session has one. */
export const STANDALONE = 'standalone'

export interface Cursor {
  stream: string
  position: number
  /** Tells the event from another one that the log may have at its position; undefined: there is none to tell. */
  mark?: number
}

/** Unique across nodes and restores. */
export function newStreamId(): string {
  return randomBytes(9).toString('base64url')
}

export function sessionTag(session: string): string {
  return createHash('sha256').update(session).digest('base64url').slice(0, 12)
}

export function formatEventId(tag: string, stream: string, position: number, mark?: number): string {
  return `${tag}.${stream}.${position}${mark === undefined ? '' : `.${mark}`}`
}

/** Undefined: malformed, or another session's. */
export function parseEventId(tag: string, id: string): Cursor | undefined {
  const [, itsTag, stream, position, mark] = /^([\w-]{12})\.([\w-]{1,64})\.(\d{1,16})(?:\.(\d{1,10}))?$/.exec(id) ?? []
  if (itsTag !== tag || stream === undefined || position === undefined) return undefined
  // Nothing but the standalone stream has events with marks.
  if (mark !== undefined && stream !== STANDALONE) return undefined
  return { stream, position: Number(position), ...(mark !== undefined && { mark: Number(mark) }) }
}

/**
 * How a stream begins that any node may write. Positions begin at the time of day: one that expired and begins again must not
 * give out the same ones.
 */
export function sharedStreamInit(): StreamInit {
  return { head: '{}', base: Date.now() }
}
