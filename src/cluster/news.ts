/** What a node tells those that follow a session, once and without an answer. News may be lost. */
import type { MessageBus } from '../backend/backend.js'
import { asError } from '../util/error.js'
import { jsonIn } from '../util/json.js'
import { isObject } from '../wire/jsonrpc.js'
import type { ClusterNode } from './node.js'

/** What is told travels as JSON and means nothing here. False: it is no news of the kind that is listened to. */
export type NewsListener = (news: unknown) => boolean

interface Topic {
  listeners: Set<NewsListener>
  subscribed: Promise<() => Promise<void>>
}

export class News {
  readonly #topics = new Map<string, Topic>()

  constructor(
    private readonly node: ClusterNode,
    private readonly bus: MessageBus,
    private readonly onerror: (error: Error) => void,
  ) {}

  /** Resolves when the other nodes' news of the session will arrive; with the way to end that. */
  async follow(session: string, listener: NewsListener): Promise<() => void> {
    const topic = this.#topics.get(session) ?? this.#subscribe(session)
    // A function of its own, because the same listener may follow a session twice and end one of the two.
    const own: NewsListener = (news) => listener(news)
    topic.listeners.add(own)
    try {
      await topic.subscribed
    } catch (error) {
      this.#forget(session, topic)
      throw error
    }
    return () => {
      if (!topic.listeners.delete(own) || topic.listeners.size > 0) return
      this.#forget(session, topic)
      topic.subscribed.then((unsubscribe) => unsubscribe()).catch(this.onerror)
    }
  }

  /** Tells the other nodes that follow the session. */
  tell(session: string, news: unknown): void {
    this.bus.publish(topicOf(session), JSON.stringify({ from: this.node.id, news })).catch(() => {})
  }

  #subscribe(session: string): Topic {
    const listeners = new Set<NewsListener>()
    const subscribed = this.bus.subscribe(topicOf(session), (text) => this.#receive(text, listeners))
    const topic = { listeners, subscribed }
    this.#topics.set(session, topic)
    return topic
  }

  #forget(session: string, topic: Topic): void {
    if (this.#topics.get(session) === topic) this.#topics.delete(session)
  }

  #receive(text: string, listeners: Set<NewsListener>): void {
    const envelope = jsonIn(text)
    // Whoever may write to the bus may write anything.
    const { from, news } = isObject(envelope) ? envelope : {}
    if (from === this.node.id) return
    try {
      const isNews = typeof from === 'string' && [...listeners].map((listener) => listener(news)).every(Boolean)
      if (!isNews) this.onerror(new Error('the bus: news that are not known here were ignored'))
    } catch (error) {
      this.onerror(asError(error))
    }
  }
}

function topicOf(session: string): string {
  return `session:${session}`
}
