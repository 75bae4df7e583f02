/** Questions between nodes: repeated until they are answered, or the node that was asked is gone. */
import { asError } from '../util/error.js'
import { jsonIn } from '../util/json.js'
import { isObject } from '../wire/jsonrpc.js'
import { type ClusterNode, HEARTBEAT_TTL } from './node.js'

/**
 * Answers what is asked about a session, on this node or from another. Undefined: it has no use for the question.
 * Questions and answers travel as JSON and mean nothing here; the room that asks also listens, see {@link Questions.listener}.
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
/** How long an answer is kept for a question that comes again because the answer was lost, in ms. */
const ANSWER_MEMORY = HEARTBEAT_TTL + 2 * ASK_TIMEOUT

type Envelope =
  | { to: 'ask'; id: string; from: string; subject: string; session: string; question: unknown }
  | { to: 'answer'; id: string; from: string; used: boolean; answer?: unknown }

type Asking = Envelope & { to: 'ask' }

type Settle = (reply: Reply | undefined) => void

export class Questions {
  /** By subject and session: the listeners, and how often each listens. */
  readonly #listeners = new Map<string, Map<QuestionListener, number>>()
  /** By question and the node that is asked. */
  readonly #waiting = new Map<string, Settle>()
  readonly #answers = new Map<string, Promise<Reply>>()
  #count = 0

  constructor(
    private readonly node: ClusterNode,
    private readonly onerror: (error: Error) => void,
  ) {
    node.onmessage = (text) => this.#receive(text)
  }

  /**
   * A listener for the questions of one room. What comes and is no such question is told, and nobody has a use for it: whoever
   * may write to the bus may write anything, and a later version of this library may ask what is not known here.
   */
  listener<Q>(
    isQuestion: (question: unknown) => question is Q,
    answer: (session: string, question: Q) => Promise<unknown>,
  ): QuestionListener {
    return async (session, question) => {
      if (isQuestion(question)) return answer(session, question)
      this.onerror(new Error('the bus: a question that is not known here was ignored'))
      return undefined
    }
  }

  /**
   * Answers what is asked about a subject and a session; with the way to end that. A listener that listens several times is
   * asked once, until it has ended that as often.
   */
  listen(subject: string, session: string, listener: QuestionListener): () => void {
    const key = keyOf(subject, session)
    const listeners = this.#listeners.get(key) ?? new Map<QuestionListener, number>()
    this.#listeners.set(key, listeners.set(listener, (listeners.get(listener) ?? 0) + 1))
    let ended = false
    return () => {
      if (ended) return
      ended = true
      const count = (listeners.get(listener) ?? 1) - 1
      if (count > 0) listeners.set(listener, count)
      else listeners.delete(listener)
      if (listeners.size === 0 && this.#listeners.get(key) === listeners) this.#listeners.delete(key)
    }
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
    return this.#askThere(node, this.#asking(subject, session, question), options)
  }

  /** Asks several nodes at once, and the other listeners of this one. */
  askAll(
    nodes: readonly string[],
    subject: string,
    session: string,
    question: unknown,
    options: AskOptions = {},
  ): Promise<Reply[]> {
    const asked = new Set([this.node.id, ...nodes])
    return Promise.all([...asked].map((node) => this.ask(node, subject, session, question, options)))
  }

  /**
   * Asks all nodes by one message, and the other listeners of this one.
   *
   * @throws Unavailable if the bus is away.
   */
  async askEverybody(subject: string, session: string, question: unknown, options: AskOptions = {}): Promise<Reply[]> {
    const here = this.#askHere(subject, session, question, options.except)
    if (!this.node.shared) return [await here]
    await this.node.ready()
    const others = await this.node.others()
    const asking = this.#asking(subject, session, question)
    const sent = others.length > 0 ? this.node.sendToAll(JSON.stringify(asking)) : Promise.resolve()
    return Promise.all([here, ...others.map((node) => this.#askThere(node, asking, options, sent))])
  }

  #asking(subject: string, session: string, question: unknown): Asking {
    return { to: 'ask', id: `${this.node.id}:${this.#count++}`, from: this.node.id, subject, session, question }
  }

  async #askThere(node: string, asking: Asking, options: AskOptions, sent?: Promise<void>): Promise<Reply> {
    const reply = await this.#replyOf(node, asking, options, sent)
    return reply ?? { outcome: (await this.node.isDead(node)) ? 'gone' : 'unreached' }
  }

  /** Undefined: no answer in time, or the node is no longer among the living. */
  async #replyOf(
    node: string,
    asking: Asking,
    { timeout = ASK_TIMEOUT, patient = false }: AskOptions,
    sent: Promise<void> | undefined,
  ): Promise<Reply | undefined> {
    const text = JSON.stringify(asking)
    const send = () => this.node.send(node, text)
    const key = waitingKey(asking.id, node)
    let repeat: NodeJS.Timeout | undefined
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<Reply | undefined>((resolve, reject) => {
        this.#waiting.set(key, resolve)
        const first = sent ?? send()
        first.catch(reject)
        repeat = setInterval(async () => {
          if (await this.node.isDead(node).catch(() => false)) resolve(undefined)
          else send().catch(() => {})
        }, ASK_INTERVAL)
        const limit = patient ? HEARTBEAT_TTL + ASK_TIMEOUT : timeout
        timer = setTimeout(() => resolve(undefined), limit)
      })
    } finally {
      this.#waiting.delete(key)
      clearInterval(repeat)
      clearTimeout(timer)
    }
  }

  async #askHere(subject: string, session: string, question: unknown, except?: QuestionListener): Promise<Reply> {
    const all = this.#listeners.get(keyOf(subject, session))?.keys() ?? []
    const listeners = [...all].filter((listener) => listener !== except)
    const answers = await Promise.all(listeners.map((listener) => listener(session, question)))
    const answer = answers.find((answer) => answer !== undefined)
    return answer === undefined ? { outcome: 'unused' } : { outcome: 'used', answer }
  }

  #receive(text: string): void {
    const envelope = envelopeIn(text)
    if (!envelope) {
      this.onerror(new Error('the bus: a message that is not from a node was ignored'))
      return
    }
    if (envelope.to === 'answer') {
      const { id, from, used, answer } = envelope
      this.#waiting.get(waitingKey(id, from))?.(used ? { outcome: 'used', answer } : { outcome: 'unused' })
      return
    }
    const { id, from } = envelope
    // What was sent to all came here as well.
    if (from === this.node.id) return
    this.#answerOnce(envelope)
      .then((reply) => this.node.send(from, JSON.stringify(answerTo(id, this.node.id, reply))))
      // No answer is sent, or it is lost; the one who asked times out and reports `unreached`.
      .catch(() => {})
  }

  /** A question that comes again gets the answer that it got before. */
  #answerOnce({ id, subject, session, question }: Asking): Promise<Reply> {
    let reply = this.#answers.get(id)
    if (!reply) {
      reply = this.#askHere(subject, session, question)
      reply.catch((error) => this.onerror(asError(error)))
      this.#answers.set(id, reply)
      setTimeout(() => this.#answers.delete(id), ANSWER_MEMORY).unref()
    }
    return reply
  }
}

/** Whoever may write to the bus may write anything. */
function envelopeIn(text: string): Envelope | undefined {
  const envelope = jsonIn(text)
  if (!isObject(envelope) || typeof envelope.id !== 'string' || typeof envelope.from !== 'string') return undefined
  const { to, subject, session, used } = envelope
  const isQuestion = typeof subject === 'string' && typeof session === 'string'
  if (to === 'ask' ? isQuestion : to === 'answer' && typeof used === 'boolean') return envelope as unknown as Envelope
  return undefined
}

function keyOf(subject: string, session: string): string {
  return `${subject} ${session}`
}

function waitingKey(id: string, node: string): string {
  return `${id} ${node}`
}

function answerTo(id: string, from: string, reply: Reply): Envelope {
  return reply.outcome === 'used'
    ? { to: 'answer', id, from, used: true, answer: reply.answer }
    : { to: 'answer', id, from, used: false }
}
