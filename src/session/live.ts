/** A live session: one server instance for a session on this node, with what comes in, what goes out, and its life. */
import type { SessionRecord, SessionStore } from '../backend/backend.js'
import { STANDALONE } from '../stream/event-id.js'
import { StreamSession } from '../stream/stream-session.js'
import type { Streams } from '../stream/streams.js'
import { monotonic } from '../util/clock.js'
import { asError } from '../util/error.js'
import type { JSONRPCNotification, JSONRPCRequest, JSONRPCResponse } from '../wire/jsonrpc.js'
import type { Limits } from '../wire/limits.js'
import { PRIMING_PROTOCOL_VERSION } from '../wire/rules.js'
import type { Deadlines } from './deadlines.js'
import type { ResponseMode } from './exchange.js'
import { Incoming } from './incoming.js'
import { Instance } from './instance.js'
import { OpeningQuestions } from './opening-questions.js'
import { Outgoing } from './outgoing.js'
import { LiveRecord } from './record.js'
import type { Routing } from './routing.js'
import { RunningRequests } from './running-requests.js'
import { StoredState } from './state.js'
import type { SessionView } from './view.js'

/** What a live session needs of the node it lives on. */
export interface LiveSessionHost {
  readonly nodeId: string
  readonly routing: Routing
  readonly streams: Streams
  readonly store: SessionStore
  readonly responseMode: ResponseMode
  readonly limits: Readonly<Limits>
  /** When an answer that takes its time becomes a stream. */
  readonly upgrades: Deadlines
  /** How long a request may be unanswered while nothing is said on its behalf; undefined: for ever. */
  readonly silences: Deadlines | undefined
  /** Whether a request may run a second time when nobody knows whether the first time was completed. */
  mayRepeat(
    request: JSONRPCRequest,
    call: (method: string, params: JSONRPCRequest['params']) => Promise<JSONRPCResponse>,
  ): Promise<boolean>
  /** Time to live of a record from now, in ms. */
  ttlOf(record: SessionRecord): number
  /** Something that ran on the session has ended. */
  onused(live: LiveSession): void
  /** The instance is gone: evicted, closed by itself, or its session is over. */
  onclosed(live: LiveSession): void
  onerror(error: Error): void
}

/** How long a session stays live for an answer that client or server owes, while neither says anything, in ms. */
const ABANDONED_AFTER = 60 * 60_000

export class LiveSession {
  /** When client or server last said something here, or a connection was open, by the monotonic clock. */
  usedAt = monotonic()
  /** When the store was asked that last had the record as it is known here. */
  checkedAt = monotonic()
  /** When this node last refreshed the expiry of the record. */
  touchedAt = Number.NEGATIVE_INFINITY
  /** How the session's streams know it. */
  streamSession: StreamSession
  readonly instance: Instance
  readonly running: RunningRequests
  readonly incoming: Incoming
  readonly #outgoing: Outgoing
  readonly #opening: OpeningQuestions
  #record: LiveRecord | undefined
  #over = false

  constructor(
    private readonly host: LiveSessionHost,
    readonly id: string,
    readonly view: SessionView,
  ) {
    const { nodeId, routing, store, streams, responseMode, limits, upgrades, silences, onerror } = host
    const live = this
    const used = () => this.#used()
    const journal = async (message: JSONRPCRequest | JSONRPCNotification) => await this.#record?.add(message)
    this.streamSession = new StreamSession(id, false)
    this.#opening = new OpeningQuestions({
      state: store.getState && store.setState && new StoredState(store, id, undefined),
      restored: view.restored,
      ask: (request) => this.#ask(request),
      answer: (response) => this.instance.dispatch(response),
      onerror,
    })
    this.instance = new Instance(view, this.#opening, {
      respond: (id, response) => this.running.respond(id, response),
      send: (message, related) => {
        this.usedAt = monotonic()
        this.running.heard(message, related)
        return this.#outgoing.send(message, related)
      },
      closed: () => this.#closed(),
      closeSSEStream: (id) => this.running.get(id)?.disconnect(),
      closeStandaloneSSEStream: () => streams.connections.disconnect(this.id, STANDALONE),
      onerror,
    })
    this.running = new RunningRequests(this.instance, {
      streams,
      responseMode,
      maxRequests: limits.requests,
      maxMessage: limits.event,
      upgrades,
      journal,
      used,
      onerror,
      get streamSession() {
        return live.streamSession
      },
      silences,
      asks: (id) => this.#outgoing.asksFor(id),
      mayRepeat: (request) => host.mayRepeat(request, (method, params) => this.instance.call(method, params)),
    })
    this.#outgoing = new Outgoing(id, nodeId, this.running, streams.writers, this.#opening, limits.event)
    const { instance, running } = this
    const [outgoing, opening] = [this.#outgoing, this.#opening]
    this.incoming = new Incoming({ id, instance, running, outgoing, opening, routing, journal, used })
  }

  get closed(): boolean {
    return this.instance.closed
  }

  /** Whether something here would be lost, or noticed, if the instance went away. */
  get busy(): boolean {
    return this.running.size > 0 || this.#outgoing.waiting || this.instance.busy
  }

  /**
   * Whether something is awaited here that may still come: not if nobody has said anything for long. A request that runs for
   * nobody, because its client is gone and has no way back to the answer, is not awaited.
   */
  get awaited(): boolean {
    const owed = this.running.isWanted || this.#outgoing.waiting || this.instance.busy
    return owed && monotonic() - this.usedAt <= ABANDONED_AFTER
  }

  /** As stored; undefined until `initialize` was answered. */
  get record(): SessionRecord | undefined {
    return this.#record?.value
  }

  get protocolVersion(): string | undefined {
    return this.record?.protocolVersion
  }

  /** The record is in the store, as given. */
  recorded(record: SessionRecord): void {
    const { store, limits, routing, onerror } = this.host
    this.#record = new LiveRecord(record, {
      store,
      maxSubscriptions: limits.subscriptions,
      ttlOf: (record) => this.host.ttlOf(record),
      tellUpdated: (id, revision, held) => routing.updated(id, revision, held),
      teach: (message) => this.instance.tell(message),
      onerror,
    })
    this.streamSession = new StreamSession(this.id, record.protocolVersion >= PRIMING_PROTOCOL_VERSION)
    this.view.source = this
  }

  /** Takes the record as the store has it, which was asked for it at a time by the monotonic clock. */
  async adopt(stored: SessionRecord, askedAt: number): Promise<void> {
    this.checkedAt = Math.max(this.checkedAt, askedAt)
    await this.#record?.adopt(stored)
  }

  /** The session can be used from now on. */
  publish(): void {
    this.#outgoing.publish()
  }

  /** Ends the instance, not the session. Requests that are running end with an error. Resolves when the server has closed. */
  dispose(): Promise<void> {
    return this.instance.dispose()
  }

  /** The session is over: handlers are aborted, streams end without a response. */
  end(): void {
    this.#over = true
    void this.dispose()
  }

  /** Puts a question to the client that was held back until now. */
  #ask(request: JSONRPCRequest): void {
    try {
      void this.#outgoing.put(request)
    } catch (error) {
      this.host.onerror(asError(error))
    }
  }

  #closed(): void {
    this.running.close(this.#over)
    this.#opening.close()
    this.host.onclosed(this)
  }

  #used(): void {
    this.usedAt = monotonic()
    if (!this.closed) this.host.onused(this)
  }
}
