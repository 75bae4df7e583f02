/** Server-sent events, as text (HTML standard, section 9.2, "Server-sent events"). */

export const SSE_HEADERS = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache, no-transform',
  // Without it nginx buffers what it passes on.
  'x-accel-buffering': 'no',
} as const

/**
 * A message (2025-11-25, basic/transports, "Resumability and Redelivery").
 *
 * @param id Undefined: a client cannot come back for what follows.
 * @param data JSON text, which has no line breaks.
 */
export function messageEvent(id: string | undefined, data: string): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: message\ndata: ${data}\n\n`
}

/**
 * An event without a message, which tells the client an id to come back with (2025-11-25, basic/transports, "Sending
 * Messages to the Server").
 *
 * @param retry In ms.
 */
export function primingEvent(id: string, retry: number): string {
  return `id: ${id}\nretry: ${retry}\ndata: \n\n`
}

/**
 * The same for clients of older revisions, which would take an event without a name, or without data, for a message. Some of
 * them come back for a stream that broke only if they have an event id.
 *
 * @param retry In ms.
 */
export function cursorEvent(id: string, retry: number): string {
  return `id: ${id}\nevent: cursor\nretry: ${retry}\ndata: {}\n\n`
}

/**
 * Tells the client how long to wait before it reconnects (2025-11-25, basic/transports, "Sending Messages to the Server").
 *
 * @param retry In ms.
 */
export function retryHint(retry: number): string {
  return `retry: ${retry}\n\n`
}

/** A comment, which clients ignore: it keeps proxies from closing a quiet stream. */
export const KEEP_ALIVE = ': keep-alive\n\n'
