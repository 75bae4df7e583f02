/** What nodes ask each other about sessions: both ends of each kind of question. Only those are asked that hold the session. */
import type { Held, StoredSession } from '../backend/backend.js'
import type { QuestionListener, Reply } from '../cluster/ask.js'
import type { Cluster } from '../cluster/cluster.js'
import { nodeOf } from '../cluster/node.js'
import {
  isMessage,
  isNotification,
  isObject,
  isRequest,
  isResponse,
  type JSONRPCMessage,
  type JSONRPCNotification,
  type JSONRPCResponse,
} from '../wire/jsonrpc.js'
import { Refusal } from '../wire/refusal.js'
import { askingNode } from './client-requests.js'

const SUBJECT = 'session'
/** What stands for all sessions in a question. */
const ALL = ''

/** How long an answer waits for the session's other instances to follow a change, in ms; they find out by themselves later. */
const FOLLOW_TIMEOUT = 250

type Question =
  /** A client's response, or progress, for a request that the asked node sent. */
  | { kind: 'deliver'; message: JSONRPCResponse | JSONRPCNotification }
  /** A client's `cancelled`, for whoever runs that request. */
  | { kind: 'cancel'; message: JSONRPCNotification }
  /** Any other notification of a client, for each live session. */
  | { kind: 'notify'; message: JSONRPCNotification }
  /** The record has a new revision. */
  | { kind: 'updated'; revision: number }
  /** The session is over. */
  | { kind: 'deleted' }
  /** The program wants all sessions to be told. */
  | { kind: 'broadcast'; broadcast: Broadcast }

/** A notification to all sessions, or to those subscribed to `uri`. */
export interface Broadcast {
  /** Under which the log keeps the notification once, however many nodes write it. */
  batch: string
  text: string
  uri?: string
}

function isQuestion(value: unknown): value is Question {
  if (!isObject(value)) return false
  const { kind, message, revision, broadcast } = value
  switch (kind) {
    case 'deliver':
      return isMessage(message) && !isRequest(message)
    case 'cancel':
    case 'notify':
      return isMessage(message) && isNotification(message)
    case 'updated':
      return Number.isSafeInteger(revision)
    case 'deleted':
      return true
    case 'broadcast':
      return isBroadcast(broadcast)
    default:
      return false
  }
}

function isBroadcast(value: unknown): value is Broadcast {
  if (!isObject(value)) return false
  const { batch, text, uri } = value
  return typeof batch === 'string' && typeof text === 'string' && (uri === undefined || typeof uri === 'string')
}

/** A session that is live here, as far as the other nodes have to do with it. */
export interface RoutedSession {
  /** Takes a client's response, or progress; false: no request of this instance waits for it. */
  deliver(message: JSONRPCMessage): Promise<boolean>
  /** Takes a client's `cancelled`; false: that request does not run here. */
  cancel(message: JSONRPCMessage): boolean
  /** Takes any other notification of the client. */
  notify(message: JSONRPCMessage): void
  /** Makes the instance know what the store has, if that is this revision or a later one. */
  follow(revision: number): Promise<void>
}

/** What a question about sessions needs of this node. */
export interface RoutedSessions {
  /** The session if it is live, once one that is being built is there. */
  routed(id: string): Promise<RoutedSession | undefined>
  /** The record of a session that is being restored has a new revision; false: none is. */
  updated(id: string, revision: number): boolean
  /** Ends whatever of a deleted session is here. */
  deleted(id: string): Promise<void>
  broadcast(broadcast: Broadcast): Promise<void>
  /** Who holds the session, by the store; undefined: it is gone. */
  held(id: string): Promise<Held | undefined>
  /** Of those that hold a session, the other nodes that are not known to be dead. */
  others(id: string, held: Held): Promise<string[]>
}

/** Whether a message is for one instance, wherever that is: a node that has none can send it on. */
export function isForOneInstance(message: JSONRPCMessage): message is JSONRPCResponse | JSONRPCNotification {
  return isResponse(message) || (isNotification(message) && FOR_ONE_INSTANCE.has(message.method))
}

const FOR_ONE_INSTANCE = new Set(['notifications/cancelled', 'notifications/progress'])

export class Routing {
  readonly #listener: QuestionListener

  constructor(
    private readonly cluster: Cluster,
    private readonly sessions: RoutedSessions,
  ) {
    this.#listener = cluster.questions.listener(isQuestion, async (id, question) =>
      (await this.#use(id, question)) ? true : undefined,
    )
  }

  /** Answers what other nodes ask about a session; with the way to end that. */
  listen(id: string): () => void {
    return this.cluster.questions.listen(SUBJECT, id, this.#listener)
  }

  /** Answers what other nodes ask about all sessions. */
  listenToAll(): () => void {
    return this.listen(ALL)
  }

  /**
   * A client's response, or progress, goes to the node whose request it is for, which its id names.
   *
   * @param held Who holds the session, if that is known.
   * @throws Refusal if that node does not answer, or does not wait for the response (any more).
   */
  async deliver(id: string, message: JSONRPCResponse | JSONRPCNotification, held?: Held): Promise<void> {
    const wireId = isResponse(message) ? message.id : message.params?.progressToken
    const named = askingNode(wireId)
    // A client may name any node. One that is none would be asked again and again before that is told.
    const node = named !== undefined && (await this.#mayExist(named, held)) ? named : undefined
    const question: Question = { kind: 'deliver', message }
    const reply = node === undefined ? undefined : await this.cluster.questions.ask(node, SUBJECT, id, question)
    if (reply?.outcome === 'unreached') throw new Refusal('unreached')
    // Progress may come late, when nobody waits for it any more.
    if (reply?.outcome !== 'used' && isResponse(message)) throw new Refusal('notAwaited')
  }

  /**
   * A client's `cancelled`, for a request that does not run here.
   *
   * @param held Who holds the session; default: who does by the store.
   * @throws Refusal if a node that may run it does not answer.
   */
  cancel(id: string, message: JSONRPCNotification, held?: Held): Promise<void> {
    return this.#tellOthers(id, { kind: 'cancel', message }, held)
  }

  /**
   * A message for one instance, of a session that is not live here.
   *
   * @throws Refusal as `deliver` and `cancel` do.
   */
  forward({ record, ...held }: StoredSession, message: JSONRPCResponse | JSONRPCNotification): Promise<void> {
    const isCancelled = !isResponse(message) && message.method === 'notifications/cancelled'
    return isCancelled ? this.cancel(record.id, message, held) : this.deliver(record.id, message, held)
  }

  /**
   * Any other notification of a client.
   *
   * @throws Refusal if a node that may have the session live does not answer.
   */
  notify(id: string, message: JSONRPCNotification): Promise<void> {
    return this.#tellOthers(id, { kind: 'notify', message })
  }

  /** The record has a new revision; resolves when the other instances have followed, or had the time to. */
  async updated(id: string, revision: number, held: Held): Promise<void> {
    await this.#askOthers(id, held, { kind: 'updated', revision }, { timeout: FOLLOW_TIMEOUT }).catch(() => {})
  }

  /**
   * The session is over; resolves when no other node serves it any more. A node that does not hear of it has found out by itself
   * by then: it serves no session for longer than that without comparing it with the store.
   */
  async deleted(id: string, held: Held): Promise<void> {
    await this.#askOthers(id, held, { kind: 'deleted' }, { patient: true }).catch(() => {})
  }

  /**
   * Has all other nodes tell their sessions; resolves with how many did not say in time that they have.
   *
   * @throws Unavailable if the bus is away.
   */
  async broadcast(broadcast: Broadcast): Promise<number> {
    const question: Question = { kind: 'broadcast', broadcast }
    const replies = await this.cluster.questions.askEverybody(SUBJECT, ALL, question, { except: this.#listener })
    return replies.filter(({ outcome }) => outcome === 'unreached').length
  }

  async #mayExist(node: string, held: Held | undefined): Promise<boolean> {
    return held?.holders?.some((name) => nodeOf(name) === node) || (await this.cluster.node.mayExist(node))
  }

  async #tellOthers(id: string, question: Question, known?: Held): Promise<void> {
    const held = known ?? (await this.sessions.held(id))
    if (!held) return
    const replies = await this.#askOthers(id, held, question, { patient: true })
    if (replies.some(({ outcome }) => outcome === 'unreached')) throw new Refusal('unreached')
  }

  async #askOthers(
    id: string,
    held: Held,
    question: Question,
    options?: { timeout?: number; patient?: boolean },
  ): Promise<Reply[]> {
    const nodes = await this.sessions.others(id, held)
    return this.cluster.questions.askAll(nodes, SUBJECT, id, question, { ...options, except: this.#listener })
  }

  /** Whether this node has a use for what another one asks. */
  async #use(id: string, question: Question): Promise<boolean> {
    switch (question.kind) {
      case 'broadcast':
        await this.sessions.broadcast(question.broadcast)
        return true
      case 'deleted':
        await this.sessions.deleted(id)
        return true
      case 'updated':
        if (this.sessions.updated(id, question.revision)) return true
    }
    const session = await this.sessions.routed(id)
    if (!session) return false
    switch (question.kind) {
      case 'deliver':
        return session.deliver(question.message)
      case 'cancel':
        return session.cancel(question.message)
      case 'notify':
        session.notify(question.message)
        return true
      case 'updated':
        await session.follow(question.revision)
        return true
      default:
        return false
    }
  }
}
