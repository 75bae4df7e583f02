/** A connection byte by byte: for what no HTTP client would send, and for answers that nobody reads. */
import net from 'node:net'
import { onTestFinished } from 'vitest'
import { listen } from '../harness/door.js'
import { within } from '../harness/within.js'
import type { Stage } from './stage.js'

export interface Connection {
  socket: net.Socket
  /** The next bytes that come. */
  said(): Promise<string>
}

/** A connection to the node adapter, on which a request's head was sent; and, if it is given, the beginning of a body. */
export async function connection(
  { handler }: Pick<Stage, 'handler'>,
  line: string,
  headers: Record<string, string>,
  body = '',
): Promise<Connection> {
  return connectionTo(await listen(handler.node), line, headers, body)
}

export function connectionTo(port: number, line: string, headers: Record<string, string>, body = ''): Connection {
  const socket = net.connect(port, '127.0.0.1')
  socket.on('error', () => {})
  onTestFinished(() => void socket.destroy())
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  socket.write(`${[line, ...head].join('\r\n')}\r\n\r\n${body}`)
  return {
    socket,
    said: () => within(new Promise((resolve) => socket.once('data', (data) => resolve(String(data)))), 'an answer'),
  }
}
