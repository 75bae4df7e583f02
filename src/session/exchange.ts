/**
 * One POST that carries requests, until each of them is answered: as JSON if the answers are the first thing that is
 * produced and come quickly, else as a stream that outlives its connection.
 */

import { newStreamId, STANDALONE } from '../stream/event-id.js'
import type { StreamSession } from '../stream/stream-session.js'
import type { Streams } from '../stream/streams.js'
import { messagesLost } from '../stream/unfinished.js'
import type { StreamWriter } from '../stream/writer.js'
import type { JSONRPCMessage, JSONRPCRequest, JSONRPCResponse, RequestId } from '../wire/jsonrpc.js'
import type { HttpReply } from '../wire/message.js'
import { Refusal, refuse } from '../wire/refusal.js'
import { SSE_HEADERS } from '../wire/sse.js'
import type { Deadline, Deadlines, Expiring } from './deadlines.js'

/** How a POST with requests is answered: JSON unless it takes long or says more (`auto`), always a stream, always JSON. */
export type ResponseMode = 'auto' | 'sse' | 'json'

/** What the exchanges of a live session have in common. */
export interface ExchangeHost {
  readonly streams: Streams
  readonly streamSession: StreamSession
  readonly responseMode: ResponseMode
  /** When an answer that takes its time becomes a stream. */
  readonly upgrades: Deadlines
  /** Characters of one message of the server. */
  readonly maxMessage: number
  onerror(error: Error): void
  /** The stream can no longer be written: nothing that is still running here will be heard. */
  onlost(exchange: Exchange): void
}

export interface ExchangeOptions {
  /** Undefined for a stream that began on another node. */
  reply: HttpReply | undefined
  /** The stream to go on with; else there is none yet. */
  stream?: { id: string; writer: StreamWriter }
  /** Progress that the client has seen, by progress token: what does not go beyond it is not sent again. */
  progress?: ReadonlyMap<unknown, number>
  /** Answered by an array. */
  batch: boolean
  /** Whether the client comes back for a stream that answers a POST, if its version lets it. */
  resumes: boolean
}

export class Exchange implements Expiring {
  readonly #host: ExchangeHost
  readonly #options: ExchangeOptions
  readonly #requests: readonly JSONRPCRequest[]
  readonly #unanswered = new Map<RequestId, JSONRPCRequest>()
  /** Answers of a batch that wait for the others. */
  readonly #answers: string[] = []
  #stream: { id: string; writer: StreamWriter } | undefined
  #done = false
  /** When it becomes a stream if it is not answered by then. */
  readonly #upgrade: Deadline | undefined
  /** It is being left to another node: whether that succeeds is not known yet. */
  #leaving = false
  /** What the server said meanwhile, in order: said here if it fails, and again by the other node if it succeeds. */
  #held: (() => void)[] = []
  /** Whether a response is among it: then the stream is wanted back. */
  #isAnswerHeld = false
  /** Whether the client may have been told an event id of the stream: it comes back with that. */
  #isNamed: boolean

  constructor(requests: readonly JSONRPCRequest[], host: ExchangeHost, options: ExchangeOptions) {
    this.#host = host
    this.#options = options
    this.#requests = requests
    this.#isNamed = options.stream !== undefined
    for (const request of requests) this.#unanswered.set(request.id, request)
    this.#stream = options.stream
    if (this.#stream) return
    if (host.responseMode === 'sse') this.#openIfRoom()
    else if (host.responseMode === 'auto') this.#upgrade = host.upgrades.add(this)
  }

  /** An answer is long in coming: what there will be comes as a stream. */
  expire(): void {
    this.#openIfRoom()
  }

  /** The requests that have no answer yet. */
  get unanswered(): JSONRPCRequest[] {
    return [...this.#unanswered.values()]
  }

  /** Whether the client can come back for what it has not yet received when its connection ends. */
  get resumable(): boolean {
    return this.#host.streamSession.priming && this.#options.resumes
  }

  /** Whether somebody waits for the answer on the connection of the POST. */
  get isFollowed(): boolean {
    return this.#options.reply?.closed === false
  }

  /** Whether somebody waits for the answer, or may come back for it: a client that has gone need not have told it. */
  get isWanted(): boolean {
    return this.isFollowed || (this.#isNamed && this.#options.resumes)
  }

  request(id: RequestId): JSONRPCRequest | undefined {
    return this.#unanswered.get(id)
  }

  /** The response to one of the requests. */
  respond(id: RequestId, response: JSONRPCResponse): void {
    if (!this.#unanswered.has(id)) return
    let text = JSON.stringify(response)
    if (this.#leaving) {
      this.#isAnswerHeld = true
      this.#held.push(() => this.respond(id, response))
      return
    }
    if (text.length > this.#host.maxMessage) {
      this.#host.onerror(
        new Error(`an answer of ${text.length} characters was not sent: ${this.#host.maxMessage} are allowed`),
      )
      text = JSON.stringify(answerTooLarge(id))
    }
    this.#unanswered.delete(id)
    const last = this.#unanswered.size === 0
    if (this.#stream) {
      this.#stream.writer.push(text, { end: last })
      this.#name()
    } else this.#answers.push(text)
    if (last) this.#finish()
  }

  /** Something the server sends on behalf of a request that is not its answer. False: this exchange takes no such thing. */
  send(message: JSONRPCMessage, text: string): boolean {
    if (this.#done || (this.#host.responseMode === 'json' && !this.#stream)) return false
    if (this.#isOld(message)) return true
    if (this.#leaving) {
      this.#held.push(() => this.send(message, text))
      return true
    }
    const writer = this.#openIfRoom()
    if (!writer) return false
    if (writer.overfull) this.#fail(messagesLost)
    else writer.push(text)
    this.#name()
    return true
  }

  /** Resolves when the server may send more; undefined: at once. */
  room(): Promise<void> | undefined {
    return this.#stream?.writer.room()
  }

  /** Leaves the requests to whoever resumes the stream, as if this node had died. False: the client has no way to. */
  async handOver(): Promise<boolean> {
    const { streams, streamSession } = this.#host
    if (this.#done || !this.resumable || (this.#host.responseMode === 'json' && !this.#stream)) return false
    const writer = this.#open()
    const stream = this.#stream?.id ?? ''
    this.#leaving = true
    try {
      if (!(await streams.writers.leave(streamSession.id, stream, writer, () => this.#isAnswerHeld))) return false
      this.#held = []
    } finally {
      this.stay()
    }
    this.#end()
    streams.connections.disconnect(streamSession.id, stream)
    return true
  }

  /** Nobody else goes on with it, or nobody knows: what was answered meanwhile is sent here. */
  stay(): void {
    this.#leaving = false
    for (const say of this.#held.splice(0)) say()
  }

  /** Ends the connection, not the stream: the client comes back for the rest. */
  disconnect(): void {
    if (this.#done || this.#host.responseMode === 'json') return
    const { streams, streamSession } = this.#host
    this.#openIfRoom()
      ?.open()
      .then(() => {
        if (this.#stream) streams.connections.disconnect(streamSession.id, this.#stream.id)
      })
  }

  /** Ends the connection of the session's standalone stream; the client comes back. */
  disconnectStandalone(): void {
    const { streams, streamSession } = this.#host
    streams.connections.disconnect(streamSession.id, STANDALONE)
  }

  /** A request was cancelled: it gets no answer (specification, basic/utilities/cancellation). */
  cancel(id: RequestId): void {
    if (!this.#unanswered.delete(id) || this.#unanswered.size > 0) return
    if (this.#stream) this.#stream.writer.end()
    this.#finish()
  }

  /** The session is over: nothing is answered any more. */
  abandon(): void {
    if (this.#done) return
    this.#end()
    const { reply } = this.#options
    const { streams, streamSession } = this.#host
    if (this.#stream) {
      this.#stream.writer.end()
      streams.connections.disconnect(streamSession.id, this.#stream.id)
    } else if (reply) refuse(reply, new Refusal('sessionNotFound'), this.#requests[0]?.id, streamSession.id)
  }

  /** A request could not be completed for a reason of the wire table. */
  refuse(refusal: Refusal, id: RequestId): void {
    if (this.#done) return
    const { reply, batch } = this.#options
    const { streamSession } = this.#host
    if (this.#stream || batch || !reply) {
      this.respond(id, { jsonrpc: '2.0', id, error: { code: refusal.code, message: refusal.message } })
      return
    }
    this.#unanswered.clear()
    this.#end()
    refuse(reply, refusal, id, streamSession.id)
  }

  /** Answers what has no answer yet with an error. */
  #fail(answer: (id: RequestId) => JSONRPCResponse): void {
    this.#host.onlost(this)
    for (const { id } of this.unanswered) this.respond(id, answer(id))
  }

  #end(): void {
    this.#done = true
    this.#upgrade?.cancel()
  }

  #finish(): void {
    if (this.#done) return
    this.#end()
    if (this.#stream) return
    const { reply, batch } = this.#options
    const { streamSession } = this.#host
    if (!reply) return
    if (this.#answers.length === 0) {
      reply.stream({ ...SSE_HEADERS, 'mcp-session-id': streamSession.id }).end()
      return
    }
    const body = batch ? `[${this.#answers.join()}]` : this.#answers[0]
    reply.send(200, { 'content-type': 'application/json', 'mcp-session-id': streamSession.id }, body)
  }

  /** An event goes out, or may go out later: nobody who has gone by now gets it. */
  #name(): void {
    this.#isNamed ||= this.isFollowed
  }

  #isOld(message: JSONRPCMessage): boolean {
    if (!this.#options.progress || !('method' in message) || message.method !== 'notifications/progress') return false
    const seen = this.#options.progress.get(message.params?.progressToken)
    return seen !== undefined && Number(message.params?.progress) <= seen
  }

  /** Undefined: as many streams are open as may be; it goes on without one, as in mode `json`. */
  #openIfRoom(): StreamWriter | undefined {
    const { streams, streamSession } = this.#host
    return this.#stream || streams.connections.hasRoom(streamSession.id) ? this.#open() : undefined
  }

  #open(): StreamWriter {
    if (this.#stream) return this.#stream.writer
    const { reply } = this.#options
    const { streams, streamSession } = this.#host
    const id = newStreamId()
    const writer = streams.writers.begin(streamSession, id, { requests: this.#requests }, () => {
      if (this.#done) return
      this.#end()
      this.#host.onlost(this)
    })
    this.#stream = { id, writer }
    this.#upgrade?.cancel()
    if (streamSession.priming) this.#name()
    if (reply && !reply.closed) streams.connections.begin(streamSession, id, reply)
    if (this.#answers.length === 0) void writer.open()
    for (const answer of this.#answers.splice(0)) writer.push(answer)
    return writer
  }
}

/** JSON-RPC 2.0, section 5.1: -32603, internal error. */
function answerTooLarge(id: RequestId): JSONRPCResponse {
  return { jsonrpc: '2.0', id, error: { code: -32603, message: 'The answer is larger than this server may send' } }
}
