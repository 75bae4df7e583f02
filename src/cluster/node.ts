/** This process among the others: its id, its heartbeat, and what nodes tell and ask each other about the sessions they share. */

import { randomBytes } from 'node:crypto'
import type { MessageBus } from '../backend/backend.js'
import { monotonic } from '../util/clock.js'
import { asError } from '../util/error.js'
import type { JSONRPCMessage } from '../wire/jsonrpc.js'

/** Told to whoever follows a session's streams: events were appended. It may be lost: the log has it all. */
export interface StreamNews {
  stream: string
  /** Position of the first one. */
  first: number
  /** Left out if they are many or big. */
  events?: readonly string[]
  ended: boolean
}

/** Asked of a node, which answers whether it had a use for it. */
export type Ask =
  /** A client's response, or progress, for a request that this node sent. */
  | { kind: 'answer'; message: JSONRPCMessage }
  /** A client's `cancelled`, for whoever runs that request. */
  | { kind: 'cancel'; message: JSONRPCMessage }
  /** Any other notification of a client, for every live session. */
  | { kind: 'notification'; message: JSONRPCMessage }
  /** The record has a new revision. */
  | { kind: 'updated'; revision: number }
  /** The session is over. */
  | { kind: 'deleted' }
  /** A connection elsewhere follows the stream now: the one here ends, if it is of this turn or older. */
  | { kind: 'attached'; stream: string; turn: number }
  /** The program wants every session (subscribed to `uri`, if given) to be told. */
  | { kind: 'notify'; id: string; text: string; uri?: string }

/** Whether what was asked was of use; and of a connection that ended, the position up to which it had sent its stream. */
export interface Used {
  used: boolean
  position?: number
}

/** Answers what other nodes ask about a session. */
export type AskListener = (session: string, ask: Ask) => Promise<Used>

export interface AskOptions {
  /** In ms. */
  timeout?: number
  /** Wait until it is certain that the node has heard, or is gone. */
  patient?: boolean
  /** Who asks, and does not want to be asked. */
  except?: AskListener
}

export interface Answer {
  /** `unreached`: no answer in time, from a node that still seems to be alive. */
  outcome: 'used' | 'unused' | 'unreached' | 'gone'
  position?: number
}

const HEARTBEAT_INTERVAL = 1000
/** A node that was silent for this long is taken for dead, by the others and by itself. */
export const HEARTBEAT_TTL = 5000
const ASK_TIMEOUT = 2000
/** How often a question is repeated, and whether the node is still alive is looked up. */
const ASK_INTERVAL = 500
/** How long one that did not answer the last time may take. */
const SUSPECT_TIMEOUT = 100
/** How long an answer is remembered, in case that the question comes again because the answer was lost. */
const ANSWER_MEMORY = HEARTBEAT_TTL + 2 * ASK_TIMEOUT

type Envelope =
  | { to: 'ask'; id: string; from: string; session: string; ask: Ask }
  | { to: 'answer'; id: string; used: Used }

interface Membership {
  listeners: Set<(news: StreamNews) => void>
  ready: Promise<() => Promise<void>>
}

export class ClusterNode {
  /** New at every start. */
  readonly id = randomBytes(6).toString('base64url')
  /** When the others may last have taken this node for dead, so that it must not trust what it was not told, by the monotonic clock. */
  distrustedAt = Number.NEGATIVE_INFINITY
  /** The names under which streams are being written by this node right now. */
  readonly writing = new Set<string>()
  /** Counts the connections of this node that follow streams. */
  turns = 0
  #writers = 0
  #distrusted = new Set<() => void>()
  #listeners = new Set<AskListener>()
  #joined = new Map<string, Membership>()
  #waiting = new Map<string, (used: Used) => void>()
  #answered = new Map<string, Promise<Used>>()
  /** Nodes that were silent when they were asked: nobody waits for them again until they are heard. */
  #suspects = new Set<string>()
  #asks = 0
  #ready: Promise<void> | undefined
  #unsubscribe: (() => Promise<void>) | undefined
  #beatAt: number | undefined
  #heart: NodeJS.Timeout | undefined
  #closed = false

  /** Without `shared`, nobody else can be on the bus: there is no heartbeat, and nobody to ask. */
  constructor(
    private readonly bus: MessageBus,
    readonly shared: boolean,
    private readonly onerror: (error: Error) => void,
  ) {}

  /** Resolves when the other nodes can reach this one; no session may be live here before. */
  ready(): Promise<void> {
    if (!this.shared) return Promise.resolve()
    this.#ready ??= this.#start().catch((error) => {
      this.#ready = undefined
      throw error
    })
    return this.#ready
  }

  /** Takes part in answering what other nodes ask; with the way to end that. */
  answer(listener: AskListener): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** A name that no other writer of a stream has, and that tells the node. */
  newWriter(): string {
    const name = `${this.id}:${this.#writers++}`
    this.writing.add(name)
    return name
  }

  /** Calls the listener each time the others may have taken this node for dead; with the way to end that. */
  whenDistrusted(listener: () => void): () => void {
    this.#distrusted.add(listener)
    return () => void this.#distrusted.delete(listener)
  }

  /** The other nodes alive. */
  async others(): Promise<string[]> {
    return this.shared ? (await this.bus.nodes()).filter((node) => node !== this.id) : []
  }

  /** Asks one node, until it answers or `timeout` ms have passed. */
  async ask(node: string, session: string, ask: Ask, options: AskOptions = {}): Promise<Answer> {
    const { timeout = ASK_TIMEOUT, patient = false, except } = options
    if (node === this.id) return await this.#askHere(session, ask, except)
    if (!this.shared) return { outcome: 'gone' }
    await this.ready()
    const id = `${this.id}:${this.#asks++}`
    const question = JSON.stringify({ to: 'ask', id, from: this.id, session, ask } satisfies Envelope)
    const topic = nodeTopic(node)
    let repeat: NodeJS.Timeout | undefined
    let timer: NodeJS.Timeout | undefined
    try {
      const answer = await new Promise<Used | undefined>((resolve, reject) => {
        this.#waiting.set(id, resolve)
        const send = () => this.bus.publish(topic, question)
        send().catch(reject)
        repeat = setInterval(async () => {
          const others = await this.others().catch(() => [node])
          if (others.includes(node)) send().catch(() => {})
          else resolve(undefined)
        }, ASK_INTERVAL)
        const limit = patient ? HEARTBEAT_TTL + ASK_TIMEOUT : this.#suspects.has(node) ? SUSPECT_TIMEOUT : timeout
        timer = setTimeout(() => resolve(undefined), limit)
      })
      if (answer) {
        this.#suspects.delete(node)
        const { used, ...rest } = answer
        return { outcome: used ? 'used' : 'unused', ...rest }
      }
      if ((await this.others()).includes(node)) {
        this.#suspects.add(node)
        return { outcome: 'unreached' }
      }
      this.#suspects.delete(node)
      return { outcome: 'gone' }
    } finally {
      this.#waiting.delete(id)
      clearInterval(repeat)
      clearTimeout(timer)
    }
  }

  /** Asks all nodes at once, and whoever else is on this one. */
  async askOthers(session: string, ask: Ask, options: AskOptions): Promise<Answer[]> {
    const here = this.ask(this.id, session, ask, options)
    const others = await this.others()
    return Promise.all([here, ...others.map((node) => this.ask(node, session, ask, options))])
  }

  /** Resolves when the other nodes' news of the session will arrive; with the way to end that. */
  async join(session: string, onnews: (news: StreamNews) => void): Promise<() => void> {
    let membership = this.#joined.get(session)
    if (!membership) {
      const listeners = new Set<(news: StreamNews) => void>()
      const hear = (text: string) => this.#hear(text, listeners)
      membership = { listeners, ready: this.bus.subscribe(sessionTopic(session), hear) }
      this.#joined.set(session, membership)
    }
    const joined = membership
    // the same function may join twice, and leave once
    const listener = (news: StreamNews) => onnews(news)
    joined.listeners.add(listener)
    const leave = () => {
      if (!joined.listeners.delete(listener) || joined.listeners.size > 0) return
      if (this.#joined.get(session) === joined) this.#joined.delete(session)
      joined.ready.then((unsubscribe) => unsubscribe()).catch(this.onerror)
    }
    try {
      await joined.ready
    } catch (error) {
      if (this.#joined.get(session) === joined) this.#joined.delete(session)
      throw error
    }
    return leave
  }

  /** Tells the other nodes that follow the session's streams; they may not hear it. */
  tell(session: string, news: StreamNews): void {
    this.bus.publish(sessionTopic(session), JSON.stringify({ from: this.id, news })).catch(() => {})
  }

  /** Takes this node out of the cluster at once. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#heart)
    if (!this.#ready) return
    await this.bus.leave(this.id).catch(() => {})
    await this.#unsubscribe?.().catch(() => {})
  }

  async #start(): Promise<void> {
    this.#unsubscribe = await this.bus.subscribe(nodeTopic(this.id), (text) => this.#receive(text))
    await this.#beat()
    if (this.#closed) return this.#unsubscribe()
    this.#heart = setInterval(() => this.#beat().catch(() => {}), HEARTBEAT_INTERVAL)
    this.#heart.unref()
  }

  async #beat(): Promise<void> {
    const before = monotonic()
    await this.bus.beat(this.id, HEARTBEAT_TTL)
    const silence = monotonic() - (this.#beatAt ?? before)
    this.#beatAt = before
    if (silence <= HEARTBEAT_TTL) return
    this.distrustedAt = monotonic()
    for (const listener of [...this.#distrusted]) listener()
  }

  #receive(text: string): void {
    const envelope = this.#parse<Envelope>(text)
    if (envelope?.to === 'answer') this.#waiting.get(envelope.id)?.(envelope.used)
    else if (envelope) {
      const { id, from, session, ask } = envelope
      this.#suspects.delete(from)
      this.#use(id, session, ask)
        .then(
          (used) => this.bus.publish(nodeTopic(from), JSON.stringify({ to: 'answer', id, used } satisfies Envelope)),
          // the one who asked gets no answer, and knows no more than the truth
          (error) => this.onerror(error),
        )
        .catch(() => {})
    }
  }

  async #askHere(session: string, ask: Ask, except: AskListener | undefined): Promise<Answer> {
    const listeners = [...this.#listeners].filter((listener) => listener !== except)
    const answers = await Promise.all(listeners.map((listener) => listener(session, ask)))
    const { used, ...rest } = answers.find((answer) => answer.used) ?? { used: false }
    return { outcome: used ? 'used' : 'unused', ...rest }
  }

  #use(id: string, session: string, ask: Ask): Promise<Used> {
    let used = this.#answered.get(id)
    if (!used) {
      used = Promise.all([...this.#listeners].map((listener) => listener(session, ask))).then(
        (uses) => uses.find(({ used }) => used) ?? { used: false },
      )
      this.#answered.set(id, used)
      setTimeout(() => this.#answered.delete(id), ANSWER_MEMORY).unref()
    }
    return used
  }

  #hear(text: string, listeners: Set<(news: StreamNews) => void>): void {
    const heard = this.#parse<{ from: string; news: StreamNews }>(text)
    if (heard && heard.from !== this.id) for (const listener of [...listeners]) listener(heard.news)
  }

  #parse<T>(text: string): T | undefined {
    try {
      return JSON.parse(text) as T
    } catch (error) {
      this.onerror(asError(error))
      return undefined
    }
  }
}

/** The node that the name of a writer or reader tells. */
export function nodeOf(name: string): string {
  return name.slice(0, name.indexOf(':'))
}

function sessionTopic(session: string): string {
  return `session:${session}`
}

function nodeTopic(node: string): string {
  return `node:${node}`
}
