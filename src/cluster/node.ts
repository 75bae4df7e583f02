/** This process among the others: its id, and what nodes tell each other about the sessions they share. */
import { randomBytes } from 'node:crypto'
import type { MessageBus } from '../backend/backend.js'
import type { JSONRPCMessage } from '../jsonrpc.js'

/** What a node tells the others that have the same session at hand. Any of these may be lost. */
export type SessionNews =
  /** Events were appended; without `events` (they are many or big) only the log has them. */
  | { kind: 'events'; stream: string; first: number; events?: readonly string[]; ended: boolean }
  /** A connection here follows the stream now: any other one ends. */
  | { kind: 'attached'; stream: string }
  /** The record has a new revision. */
  | { kind: 'updated'; revision: number }
  /** The session is over. */
  | { kind: 'deleted' }
  /** A client's notification that concerns every live session. */
  | { kind: 'notification'; message: JSONRPCMessage }

type NewsListener = (news: SessionNews) => void

interface Membership {
  listeners: Set<NewsListener>
  ready: Promise<() => Promise<void>>
}

export class ClusterNode {
  /** New at every start. */
  readonly id = randomBytes(6).toString('base64url')
  #joined = new Map<string, Membership>()

  constructor(
    private readonly bus: MessageBus,
    private readonly onerror: (error: Error) => void,
  ) {}

  /** Resolves when the other nodes' news of the session will arrive; with the way to end that. */
  async join(session: string, onnews: (news: SessionNews) => void): Promise<() => void> {
    let membership = this.#joined.get(session)
    if (!membership) {
      const listeners = new Set<NewsListener>()
      membership = { listeners, ready: this.bus.subscribe(topicOf(session), (text) => this.#hear(text, listeners)) }
      this.#joined.set(session, membership)
    }
    const joined = membership
    // the same function may join twice, and leave once
    const listener: NewsListener = (news) => onnews(news)
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

  /** Tells the other nodes; they may not hear it. */
  tell(session: string, news: SessionNews): void {
    this.bus.publish(topicOf(session), JSON.stringify({ ...news, from: this.id })).catch(() => {})
  }

  #hear(text: string, listeners: Set<NewsListener>): void {
    try {
      const news = JSON.parse(text) as SessionNews & { from: string }
      if (news.from !== this.id) for (const listener of [...listeners]) listener(news)
    } catch (error) {
      this.onerror(error instanceof Error ? error : new Error(String(error)))
    }
  }
}

function topicOf(session: string): string {
  return `session:${session}`
}
