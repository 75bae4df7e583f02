/**
 * Event ids: opaque cursors for clients, `<session tag>.<stream>.<position>` for us. The tag is what makes one session's
 * event id mean nothing in another one.
 */
import { createHash, randomBytes } from 'node:crypto'

/** The stream that GET opens; each session has one. */
export const STANDALONE = 'standalone'

export interface Cursor {
  stream: string
  position: number
}

/** Unique across nodes and restores. */
export function newStreamId(): string {
  return randomBytes(9).toString('base64url')
}

export function sessionTag(session: string): string {
  return createHash('sha256').update(session).digest('base64url').slice(0, 12)
}

export function formatEventId(tag: string, stream: string, position: number): string {
  return `${tag}.${stream}.${position}`
}

/** Undefined: malformed, or another session's. */
export function parseEventId(tag: string, id: string): Cursor | undefined {
  const [, owner, stream, position] = /^([\w-]{12})\.([\w-]{1,64})\.(\d{1,16})$/.exec(id) ?? []
  if (owner !== tag || stream === undefined || position === undefined) return undefined
  return { stream, position: Number(position) }
}
