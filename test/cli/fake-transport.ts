/** The handler's side of a transport, played by the test: what the server instance sends is kept and can be awaited. */

import type { Transport } from '../../src/index.js'
import { isResponse, type JSONRPCMessage, type RequestId } from '../../src/wire/jsonrpc.js'
import { within } from '../harness/within.js'

export interface Sent {
  message: JSONRPCMessage
  related: RequestId | undefined
}

export class FakeTransport implements Transport {
  onmessage?: Transport['onmessage']
  onclose?: (() => void) | undefined
  readonly sent: Sent[] = []
  readonly closed: Promise<void>
  isClosed = false
  #nextId = 1
  #onclosed!: () => void
  #waiting: { wanted: (sent: Sent) => boolean; found: (sent: Sent) => void }[] = []

  constructor() {
    this.closed = new Promise((resolve) => {
      this.#onclosed = resolve
    })
  }

  async start(): Promise<void> {}

  async send(message: JSONRPCMessage, options?: { relatedRequestId?: RequestId | undefined }): Promise<void> {
    const sent = { message, related: options?.relatedRequestId }
    this.sent.push(sent)
    for (const waiter of this.#waiting) if (waiter.wanted(sent)) waiter.found(sent)
  }

  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    this.#onclosed()
    this.onclose?.()
  }

  /** A message from the client. */
  receive(message: JSONRPCMessage): void {
    this.onmessage?.(message)
  }

  /** A request from the client; the id it got. */
  request(method: string, params: { [key: string]: unknown } = {}): number {
    const id = this.#nextId++
    this.receive({ jsonrpc: '2.0', id, method, params })
    return id
  }

  /** A request from the client, and the result the server gave. */
  async call(method: string, params: { [key: string]: unknown } = {}): Promise<{ [key: string]: unknown }> {
    const id = this.request(method, params)
    const { message } = await this.until((sent) => isResponse(sent.message) && sent.message.id === id)
    if (!('result' in message)) throw new Error(`not a result: ${JSON.stringify(message)}`)
    return message.result
  }

  /** What was or will be sent. */
  until(wanted: (sent: Sent) => boolean): Promise<Sent> {
    const there = this.sent.find(wanted)
    if (there) return Promise.resolve(there)
    const found = new Promise<Sent>((resolve) => this.#waiting.push({ wanted, found: resolve }))
    return within(found, `a message, but ${JSON.stringify(this.sent)}`)
  }
}
