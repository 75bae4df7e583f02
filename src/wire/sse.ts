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
 * @param data JSON text, which has no line breaks.
 */
export function messageEvent(id: string, data: string): string {
  return `id: ${id}\nevent: message\ndata: ${data}\n\n`
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
 * Tells the client how long to wait before it reconnects (2025-11-25, basic/transports, "Sending Messages to the Server").
 *
 * @param retry In ms.
 */
export function retryHint(retry: number): string {
  return `retry: ${retry}\n\n`
}

/** A comment, which clients ignore: it keeps proxies from closing a quiet stream. */
export const KEEP_ALIVE = ': keep-alive\n\n'
