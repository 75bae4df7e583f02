/** What nodes ask each other about sessions: both ends of each kind of question. */
import type { QuestionListener, Reply } from '../cluster/ask.js'
import type { Cluster } from '../cluster/cluster.js'
import type { JSONRPCMessage } from '../wire/jsonrpc.js'
import { Refusal } from '../wire/refusal.js'

const SUBJECT = 'session'

/** How long an answer waits for the session's other instances to follow a change, in ms; they find out by themselves later. */
const FOLLOW_TIMEOUT = 250

type Question =
  /** A client's response, or progress, for a request that the asked node sent. */
  | { kind: 'deliver'; message: JSONRPCMessage }
  /** A client's `cancelled`, for whoever runs that request. */
  | { kind: 'cancel'; message: JSONRPCMessage }
  /** Any other notification of a client, for each live session. */
  | { kind: 'notify'; message: JSONRPCMessage }
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
  /** Ends whatever of a deleted session is here. */
  deleted(id: string): Promise<void>
  broadcast(broadcast: Broadcast): Promise<void>
}

export class Routing {
  readonly #listener: QuestionListener = async (id, question) =>
    (await this.#use(id, question as Question)) ? true : undefined
  #unlisten: (() => void) | undefined

  constructor(
    private readonly cluster: Cluster,
    private readonly sessions: RoutedSessions,
  ) {}

  /** Answers the other nodes from now on. */
  listen(): void {
    this.#unlisten ??= this.cluster.questions.listen(SUBJECT, this.#listener)
  }

  close(): void {
    this.#unlisten?.()
  }

  /**
   * A client's response, or progress, for a request that a node sent; false if that node does not wait for it (any more).
   *
   * @throws Refusal if the node does not answer.
   */
  async deliver(node: string, id: string, message: JSONRPCMessage): Promise<boolean> {
    const question: Question = { kind: 'deliver', message }
    const { outcome } = await this.cluster.questions.ask(node, SUBJECT, id, question)
    if (outcome === 'unreached') throw new Refusal('unreached')
    return outcome === 'used'
  }

  /**
   * A client's `cancelled`, for a request that does not run here.
   *
   * @throws Refusal if a node that may run it does not answer.
   */
  cancel(id: string, message: JSONRPCMessage): Promise<void> {
    return this.#tellAll(id, { kind: 'cancel', message })
  }

  /**
   * Any other notification of a client.
   *
   * @throws Refusal if a node that may have the session live does not answer.
   */
  notify(id: string, message: JSONRPCMessage): Promise<void> {
    return this.#tellAll(id, { kind: 'notify', message })
  }

  /** The record has a new revision; resolves when the other instances have followed, or had the time to. */
  async updated(id: string, revision: number): Promise<void> {
    await this.#askOthers(id, { kind: 'updated', revision }, { timeout: FOLLOW_TIMEOUT }).catch(() => {})
  }

  /** The session is over. A node that does not hear of it finds out when it next compares its record with the store. */
  async deleted(id: string): Promise<void> {
    await this.#askOthers(id, { kind: 'deleted' }).catch(() => {})
  }

  /** @throws Unavailable if the bus is away. */
  async broadcast(broadcast: Broadcast): Promise<void> {
    await this.#askOthers('', { kind: 'broadcast', broadcast })
  }

  async #tellAll(id: string, question: Question): Promise<void> {
    const replies = await this.#askOthers(id, question, { patient: true })
    if (replies.some(({ outcome }) => outcome === 'unreached')) throw new Refusal('unreached')
  }

  #askOthers(id: string, question: Question, options?: { timeout?: number; patient?: boolean }): Promise<Reply[]> {
    return this.cluster.questions.askAll(SUBJECT, id, question, { ...options, except: this.#listener })
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
