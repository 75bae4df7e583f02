/**
 * The most that a transport can reach with these servers: it checks nothing, keeps nothing, and only parses, finds the
 * session's server, and writes the answer.
 */
import { randomUUID } from 'node:crypto'
import type { RequestListener, ServerResponse } from 'node:http'
import type { JSONRPCMessage, Transport } from '@modelcontextprotocol/server'
import { readJson, writeJson } from './json.js'

class CeilingTransport implements Transport {
  readonly sessionId = randomUUID()
  onmessage?: NonNullable<Transport['onmessage']>
  onclose?: () => void
  readonly #waiting = new Map<string | number, ServerResponse>()

  async start(): Promise<void> {}

  async send(message: JSONRPCMessage): Promise<void> {
    if (!('id' in message) || message.id === undefined) return
    const res = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if (res) writeJson(res, message, this.sessionId)
  }

  async close(): Promise<void> {
    this.onclose?.()
  }

  receive(message: JSONRPCMessage, res: ServerResponse): void {
    if ('id' in message && message.id !== undefined) this.#waiting.set(message.id, res)
    else res.writeHead(202).end()
    this.onmessage?.(message)
  }
}

export function ceiling(connect: (transport: CeilingTransport) => Promise<void>): RequestListener {
  const sessions = new Map<string, CeilingTransport>()
  return async (req, res) => {
    const message = (await readJson(req)) as JSONRPCMessage
    let transport = sessions.get(req.headers['mcp-session-id'] as string)
    if (!transport) {
      transport = new CeilingTransport()
      sessions.set(transport.sessionId, transport)
      await connect(transport)
    }
    transport.receive(message, res)
  }
}
