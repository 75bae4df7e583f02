/** Questions between nodes: repeated until they are answered, or the node that was asked is gone. */
import { asError } from '../util/error.js'
import { type ClusterNode, HEARTBEAT_TTL } from './node.js'

/**
 * Answers what is asked about a session, on this node or from another. Undefined: it has no use for the question.
 * Questions and answers travel as JSON and mean nothing here; the room that asks also listens.
 */
export type QuestionListener = (session: string, question: unknown) => Promise<unknown>

/**
 * `unused`: nobody there has a use for the question. `unreached`: no answer in time, from a node that still seems to be
 * alive. `gone`: there is no such node.
 */
export type Reply = { outcome: 'used'; answer: unknown } | { outcome: 'unused' | 'unreached' | 'gone' }

export interface AskOptions {
  /** How long to wait for the answer, in ms. Default 2,000. */
  timeout?: number
  /** Wait until it is certain that the node has heard, or is gone. */
  patient?: boolean
  /** A listener of this node that is not asked: the one who asks. */
  except?: QuestionListener
}

const ASK_TIMEOUT = 2000
/** How often a question is repeated, and the node that was asked is looked up among the living, in ms. */
const ASK_INTERVAL = 500
/** How long a node that did not answer the last time may hold up a question to all nodes, in ms. */
const SUSPECT_TIMEOUT = 100
/** How long an answer is kept for a question that comes again because the answer was lost, in ms. */
const ANSWER_MEMORY = HEARTBEAT_TTL + 2 * ASK_TIMEOUT

type Envelope =
  | { to: 'ask'; id: string; from: string; subject: string; session: string; question: unknown }
  | { to: 'answer'; id: string; used: boolean; answer?: unknown }

type Settle = (reply: Reply | undefined) => void

export class Questions {
  readonly #listeners = new Map<string, Set<QuestionListener>>()
  readonly #waiting = new Map<string, Settle>()
  readonly #answers = new Map<string, Promise<Reply>>()
  /** Nodes that did not answer when they were last asked; they hold nobody up for long until they are heard of. */
  readonly #suspects = new Set<string>()
  #count = 0

  constructor(
    private readonly node: ClusterNode,
    private readonly onerror: (error: Error) => void,
  ) {
    node.onmessage = (text) => this.#receive(text)
  }

  /** Answers what is asked about a subject; with the way to end that. */
  listen(subject: string, listener: QuestionListener): () => void {
    const listeners = this.#listeners.get(subject) ?? new Set()
    this.#listeners.set(subject, listeners.add(listener))
    return () => void listeners.delete(listener)
  }

  /**
   * Asks one node, which may be this one.
   *
   * @throws Unavailable if the bus is away.
   */
  async ask(
    node: string,
    subject: string,
    session: string,
    question: unknown,
    options: AskOptions = {},
  ): Promise<Reply> {
    if (node === this.node.id) return this.#askHere(subject, session, question, options.except)
    if (!this.node.shared) return { outcome: 'gone' }
    await this.node.ready()
    const id = `${this.node.id}:${this.#count++}`
    const reply = await this.#askThere(node, { to: 'ask', id, from: this.node.id, subject, session, question }, options)
    if (reply) {
      this.#suspects.delete(node)
      return reply
    }
    if (await this.node.isDead(node)) {
      this.#suspects.delete(node)
      return { outcome: 'gone' }
    }
    this.#suspects.add(node)
    return { outcome: 'unreached' }
  }

  /** Asks all nodes at once, and the other listeners of this one. */
  async askAll(subject: string, session: string, question: unknown, options: AskOptions = {}): Promise<Reply[]> {
    const here = this.ask(this.node.id, subject, session, question, options)
    const others = await this.node.others()
    const timeoutFor = (node: string) => (this.#suspects.has(node) ? SUSPECT_TIMEOUT : options.timeout)
    const there = others.map((node) => {
      const timeout = timeoutFor(node)
      return this.ask(node, subject, session, question, { ...options, ...(timeout !== undefined && { timeout }) })
    })
    return Promise.all([here, ...there])
  }

  /** Undefined: no answer in time, or the node is no longer among the living. */
  async #askThere(
    node: string,
    envelope: Envelope,
    { timeout = ASK_TIMEOUT, patient = false }: AskOptions,
  ): Promise<Reply | undefined> {
    const text = JSON.stringify(envelope)
    const send = () => this.node.send(node, text)
    let repeat: NodeJS.Timeout | undefined
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<Reply | undefined>((resolve, reject) => {
        this.#waiting.set(envelope.id, resolve)
        send().catch(reject)
        repeat = setInterval(async () => {
          if (await this.node.isDead(node).catch(() => false)) resolve(undefined)
          else send().catch(() => {})
        }, ASK_INTERVAL)
        const limit = patient ? HEARTBEAT_TTL + ASK_TIMEOUT : timeout
        timer = setTimeout(() => resolve(undefined), limit)
      })
    } finally {
      this.#waiting.delete(envelope.id)
      clearInterval(repeat)
      clearTimeout(timer)
    }
  }

  async #askHere(subject: string, session: string, question: unknown, except?: QuestionListener): Promise<Reply> {
    const listeners = [...(this.#listeners.get(subject) ?? [])].filter((listener) => listener !== except)
    const answers = await Promise.all(listeners.map((listener) => listener(session, question)))
    const answer = answers.find((answer) => answer !== undefined)
    return answer === undefined ? { outcome: 'unused' } : { outcome: 'used', answer }
  }

  #receive(text: string): void {
    let envelope: Envelope
    try {
      envelope = JSON.parse(text) as Envelope
    } catch (error) {
      this.onerror(asError(error))
      return
    }
    if (envelope.to === 'answer') {
      const { id, used, answer } = envelope
      this.#waiting.get(id)?.(used ? { outcome: 'used', answer } : { outcome: 'unused' })
      return
    }
    const { id, from } = envelope
    this.#suspects.delete(from)
    this.#answerOnce(envelope)
      .then(
        (reply) => this.node.send(from, JSON.stringify(answerTo(id, reply))),
        // No answer is sent; the one who asked times out and reports `unreached`.
        (error) => this.onerror(asError(error)),
      )
      .catch(() => {})
  }

  /** A question that comes again gets the answer that it got before. */
  #answerOnce({ id, subject, session, question }: Envelope & { to: 'ask' }): Promise<Reply> {
    let reply = this.#answers.get(id)
    if (!reply) {
      reply = this.#askHere(subject, session, question)
      this.#answers.set(id, reply)
      setTimeout(() => this.#answers.delete(id), ANSWER_MEMORY).unref()
    }
    return reply
  }
}

function answerTo(id: string, reply: Reply): Envelope {
  return reply.outcome === 'used'
    ? { to: 'answer', id, used: true, answer: reply.answer }
    : { to: 'answer', id, used: false }
}
