/** Server-sent events, as text (HTML standard, section 9.2.6). */

export const SSE_HEADERS = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache, no-transform',
  // nginx buffers a proxied answer unless it is told not to
  'x-accel-buffering': 'no',
} as const

/** A message; `data` is JSON text, which has no line breaks. */
export function messageEvent(id: string, data: string): string {
  return `id: ${id}\nevent: message\ndata: ${data}\n\n`
}

/** An event that carries only a cursor (specification 2025-11-25, basic/transports, "Sending Messages"). */
export function primingEvent(id: string, retry: number): string {
  return `id: ${id}\nretry: ${retry}\ndata: \n\n`
}

/** Tells the client how long to wait before it reconnects. */
export function retryHint(retry: number): string {
  return `retry: ${retry}\n\n`
}

export const KEEP_ALIVE = ': keep-alive\n\n'
