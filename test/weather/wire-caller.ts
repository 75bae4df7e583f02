/** A client by hand, of any revision: it comes back to broken streams, and tries again after a 503, as a good client does. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Tool, Work } from '../chaos/tools.js'
import { urlDoor } from '../harness/door.js'
import type { Reply } from '../harness/reply.js'
import { initializeMessage, WireClient } from '../harness/wire-client.js'
import { type Caller, outcomeOf } from './caller.js'
import { Listener } from './listener.js'
import type { Call, Log, Numbers } from './log.js'
import { RETRY_INTERVAL } from './terms.js'

export const REVISIONS = ['2025-03-26', '2025-06-18', '2025-11-25'] as const
export type Revision = (typeof REVISIONS)[number]

/** Longest silence on a connection, in ms: several keep-alive comments. Who judges what hangs does so before. */
const PATIENCE = 90_000

const TOOLS: readonly Tool[] = ['short', 'short', 'short_once', 'short_once', 'long', 'long_once']

/** What a POST or GET came to: an answer, or a connection that broke before one. */
type Sent = Reply | 'broken'

export class WireCaller implements Caller {
  #wire!: WireClient
  #listener!: Listener
  #ids = 0
  #over = false

  private constructor(
    private readonly url: string,
    readonly kind: Revision,
    readonly name: string,
    private readonly log: Log,
  ) {}

  /** With a session of its own, whose standalone stream it follows. Whoever connects one closes it. */
  static async connect(url: string, revision: Revision, name: string, log: Log): Promise<WireCaller> {
    const caller = new WireCaller(url, revision, name, log)
    await caller.#open()
    caller.#listener = new Listener(name, (cursor) => caller.send(() => caller.#wire.get(cursor)), log)
    return caller
  }

  get sessionId(): string {
    return this.#wire.sessionId
  }

  get numbers(): Numbers {
    return this.#listener.numbers
  }

  get tools(): readonly Tool[] {
    // elicitation came with 2025-06-18
    return this.kind === '2025-03-26' ? TOOLS : [...TOOLS, 'ask']
  }

  async call(tool: Tool, work: Work): Promise<Call> {
    const { log } = this
    const call = log.begin(this.name, this.kind, tool, work)
    let id = 0
    let sent = await this.send(() => {
      id = ++this.#ids
      const params = { name: tool, arguments: { ...work }, _meta: { progressToken: id } }
      return this.#wire.open({ id, method: 'tools/call', params })
    })
    const seen = new Set<string>()
    let cursor: string | undefined
    for (;;) {
      if (sent === 'broken') {
        if (cursor === undefined || this.#over) return log.end(call, 'cut', 'no answer, and no event id')
      } else if (!sent.isStream) return this.#settle(call, sent, (await sent.answer().catch(() => undefined))?.body)
      else {
        const { answer, end } = await this.#read(sent, call, id, seen)
        cursor = sent.lastEventId ?? cursor
        if (answer) return this.#settle(call, sent, answer)
        if (cursor === undefined) return log.end(call, end === 'ended' ? 'empty' : 'cut', `a stream that ${end}`)
      }
      await delay(RETRY_INTERVAL)
      call.resumed++
      const from = cursor
      sent = await this.send(() => this.#wire.get(from))
    }
  }

  /** Resolves when it is closed, or its standalone stream has ended with its session. */
  get gone(): Promise<void> {
    return this.#listener.done
  }

  /** DELETE, until it has been answered by yes or no; false: it never was. */
  async delete(): Promise<boolean> {
    this.#listener.expectEnd()
    let unsure = false
    while (!this.#over) {
      // one that was refused because the store was too slow may have been done all the same
      const refused = () => {
        unsure = true
      }
      const reply = await this.send(() => this.#wire.raw({ method: 'DELETE' }), refused)
      if (reply !== 'broken') {
        const { status } = await reply.answer()
        if (status === 200 || (status === 404 && unsure)) return true
        this.log.fault(`${this.name}: DELETE was answered ${status}`)
        return false
      }
      unsure = true
      await delay(RETRY_INTERVAL)
    }
    return false
  }

  /** What a `ping` is answered with, once: an HTTP status; undefined: nothing came. */
  async ping(): Promise<number | undefined> {
    try {
      const { status } = await this.#wire.post({ id: ++this.#ids, method: 'ping' })
      return status
    } catch {
      return undefined
    }
  }

  /** Stops following its standalone stream; the session stays. */
  async close(): Promise<void> {
    this.#over = true
    this.#listener.close()
  }

  /** Opens a session, in as many attempts as it takes. */
  async #open(): Promise<void> {
    const stranger = new WireClient(urlDoor(this.url, PATIENCE), '', this.kind)
    const capabilities = this.kind === '2025-03-26' ? {} : { elicitation: {} }
    const body = initializeMessage({ version: this.kind, capabilities })
    const headers = { 'mcp-session-id': undefined, 'mcp-protocol-version': undefined }
    for (;;) {
      const reply = await this.send(() => stranger.raw({ headers, body }))
      const answer = reply === 'broken' ? undefined : await reply.answer().catch(() => undefined)
      if (answer?.sessionId) {
        this.#wire = new WireClient(urlDoor(this.url, PATIENCE), answer.sessionId, this.kind)
        break
      }
      if (answer) this.log.fault(`${this.name}: initialize was answered ${answer.status} ${answer.text}`)
      await delay(RETRY_INTERVAL)
    }
    for (;;) {
      const reply = await this.send(() => this.#wire.open({ method: 'notifications/initialized' }))
      if (reply !== 'broken') {
        if (reply.status !== 202) this.log.fault(`${this.name}: initialized was answered ${reply.status}`)
        return
      }
      await delay(RETRY_INTERVAL)
    }
  }

  /** Sends it until the answer is another than 503; `refused` is called at each of those. */
  async send(open: () => Promise<Reply>, refused = () => {}): Promise<Sent> {
    for (;;) {
      const reply = await open().catch(() => 'broken' as const)
      if (reply === 'broken' || reply.status === 502) return 'broken'
      if (reply.status === 504) {
        this.log.fault(`${this.name}: no answer in all the time that the balancer waits`)
        return 'broken'
      }
      if (reply.status !== 503 || this.#over) return reply
      this.log.refused(this.name)
      refused()
      const after = reply.headers['retry-after']
      if (after === undefined) this.log.fault(`${this.name}: 503 without Retry-After`)
      await delay(1000 * Number(after ?? 1))
    }
  }

  /** Reads a stream to the call's answer, or to its end. */
  async #read(reply: Reply, call: Call, id: number, seen: Set<string>) {
    try {
      for await (const { id: event, message } of reply) {
        if (event !== undefined && seen.has(event))
          this.log.fault(`${call.client} ${call.key}: event ${event} came twice`)
        if (event !== undefined) seen.add(event)
        if (message.method === 'notifications/progress') call.progress.push(message.params.progress)
        else if (message.method === 'elicitation/create') void this.#respond(call, message.id)
        else if (message.id === id && message.method === undefined) {
          void this.#expectEnd(reply, call)
          return { answer: message }
        }
      }
      return { end: 'ended' as const }
    } catch {
      return { end: 'broke' as const }
    }
  }

  async #expectEnd(reply: Reply, call: Call): Promise<void> {
    const { events } = await reply.untilGone()
    for (const { data } of events) this.log.fault(`${call.client} ${call.key}: after its answer came ${data}`)
  }

  async #respond(call: Call, id: string | number): Promise<void> {
    const content = { username: call.key, email: 'user@example.com' }
    for (;;) {
      const reply = await this.send(() => this.#wire.open({ id, result: { action: 'accept', content } }))
      if (reply !== 'broken') {
        call.accepted ||= reply.status === 202
        // by now nobody waits for it any more
        if (call.outcome !== undefined) return
        // 400: whoever asked is gone, or has its answer from an attempt that seemed to fail
        if (reply.status !== 202 && reply.status !== 400) {
          this.log.fault(`${call.client} ${call.key}: its response was answered ${reply.status}`)
        }
        return
      }
      if (this.#over) return
      await delay(RETRY_INTERVAL)
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: whatever was answered
  #settle(call: Call, { status }: Reply, body: any): Call {
    const { log } = this
    const why = `${status} ${JSON.stringify(body)}`
    if (status === 404) return log.end(call, 'gone', why)
    if (status === 503) return log.end(call, 'away', why)
    if (status === 204) return log.end(call, 'empty', 'nothing left on its stream, and no answer came')
    if (status === 200 && body === undefined) return log.end(call, 'cut', 'a body that broke')
    switch (body?.error?.data?.reason) {
      case 'outcome-unknown':
        return log.end(call, 'unknown', why)
      case 'messages-lost':
        return log.end(call, 'lost', why)
    }
    const outcome = outcomeOf(String(body?.result?.content?.[0]?.text), call.key)
    return log.end(call, outcome, why)
  }
}
