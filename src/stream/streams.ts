/** The streams that this node writes or follows: one connection a stream, fed from the event log. */
import type { StreamInit } from '../backend/backend.js'
import type { BoundedBackend } from '../backend/bounded.js'
import type { ClusterNode, SessionNews } from '../cluster/node.js'
import type { HttpReply } from '../http/message.js'
import { Refusal } from '../http/refusal.js'
import { type Cursor, formatEventId, STANDALONE, sessionTag } from './event-id.js'
import { Follower } from './follower.js'
import { KEEP_ALIVE, primingEvent, retryHint, SSE_HEADERS } from './sse.js'
import { StreamWriter } from './writer.js'

/** Events up to this size travel with the news of them; bigger ones are read from the log. */
const NEWS_LIMIT = 4096

export interface StreamsOptions {
  keepAlive: number
  retryInterval: number
  maxBuffered: number
}

export interface StreamOwner {
  /** The session's id. */
  id: string
  /** Whether the client can read an event without data. */
  priming: boolean
}

export class Streams {
  /** Events that clients asked for and the log no longer held. */
  gaps = 0
  #followers = new Map<string, Map<string, Follower>>()
  #keepAlive: NodeJS.Timeout | undefined

  constructor(
    private readonly node: ClusterNode,
    private readonly backend: BoundedBackend,
    private readonly options: StreamsOptions,
  ) {}

  /** The number of connections that are open for a session on this node. */
  count(session: string): number {
    return this.#followers.get(session)?.size ?? 0
  }

  /** A writer for a stream of the session that only this node writes: the answer to a POST. */
  writer(owner: StreamOwner, stream: string, head: object, onlost: (error?: unknown) => void): StreamWriter {
    const init = { head: JSON.stringify(head), writer: this.node.id }
    return this.#writer(owner.id, stream, init, onlost, () => this.#prime(owner, stream))
  }

  /** A writer for the session's standalone stream, that any node writes. */
  standaloneWriter(session: string, onlost: (error?: unknown) => void): StreamWriter {
    return this.#writer(session, STANDALONE, standaloneInit(), onlost)
  }

  /** Answers with a stream that begins here, as the answer to a POST. */
  begin(owner: StreamOwner, stream: string, reply: HttpReply): void {
    const tag = sessionTag(owner.id)
    const sink = reply.stream({ ...SSE_HEADERS, 'mcp-session-id': owner.id })
    const follower = this.#register(owner, tag, stream, 0, sink)
    reply.onclose(() => follower.gone())
  }

  /** Answers a GET: with the standalone stream, or the stream that the cursor names from there on. */
  async attach(owner: StreamOwner, cursor: Cursor | undefined, reply: HttpReply): Promise<void> {
    const { events } = this.backend
    const stream = cursor?.stream ?? STANDALONE
    const standalone = stream === STANDALONE
    if (standalone && !(await events.open(owner.id, STANDALONE, standaloneInit()))) throw new Refusal('sessionNotFound')
    const info = await events.attach(owner.id, stream, this.node.id)
    if (info === undefined) throw new Refusal(standalone ? 'sessionNotFound' : 'lastEventId')
    let position = cursor?.position ?? (info.reader === undefined ? info.first - 1 : info.last)
    if (standalone) {
      if (position > info.last) position = info.last
    } else {
      if (position > info.last || position < info.first - 1) throw new Refusal('lastEventId')
      if (info.ended && position === info.last) return reply.send(204, { 'mcp-session-id': owner.id })
    }
    const leave = await this.node.join(owner.id, (news) => this.#hear(owner.id, news))
    this.node.tell(owner.id, { kind: 'attached', stream })

    const tag = sessionTag(owner.id)
    const sink = reply.stream({ ...SSE_HEADERS, 'mcp-session-id': owner.id })
    const { retryInterval } = this.options
    // A client that loses this connection before an event came through must still know where it was.
    const id = formatEventId(tag, stream, position)
    sink.write(owner.priming ? primingEvent(id, retryInterval) : retryHint(retryInterval))
    const follower = this.#register(owner, tag, stream, position, sink, leave)
    reply.onclose(() => follower.gone())
    follower.catchUp()
  }

  /** Ends the connection that follows a stream, if it is here; the client comes back after the retry interval. */
  disconnect(session: string, stream: string): void {
    const follower = this.#followers.get(session)?.get(stream)
    follower?.comment(retryHint(this.options.retryInterval))
    follower?.close()
  }

  /** Ends all connections of a session. */
  disconnectAll(session: string): void {
    for (const follower of [...(this.#followers.get(session)?.values() ?? [])]) follower.close()
  }

  /** Ends all connections; clients are told when to come back. */
  close(): void {
    for (const [session, followers] of [...this.#followers]) {
      for (const stream of [...followers.keys()]) this.disconnect(session, stream)
    }
  }

  /** Another node has written or taken over a stream. */
  #hear(session: string, news: SessionNews): void {
    if (news.kind !== 'events' && news.kind !== 'attached') return
    const follower = this.#followers.get(session)?.get(news.stream)
    if (news.kind === 'attached') follower?.close()
    else follower?.receive(news.first, news.events, news.ended)
  }

  /** Says to the client where the stream begins, now that it is in the log, so that it can resume before the first event. */
  #prime(owner: StreamOwner, stream: string): void {
    if (!owner.priming) return
    const id = formatEventId(sessionTag(owner.id), stream, 0)
    this.#followers.get(owner.id)?.get(stream)?.comment(primingEvent(id, this.options.retryInterval))
  }

  #writer(
    session: string,
    stream: string,
    init: StreamInit,
    lost: (error?: unknown) => void,
    opened: () => void = () => {},
  ): StreamWriter {
    return new StreamWriter(this.backend.events, session, stream, init, {
      opened,
      appended: (first, events, ended) => {
        const follower = this.#followers.get(session)?.get(stream)
        if (follower) return follower.receive(first, events, ended)
        const size = events.reduce((sum, event) => sum + event.length, 0)
        this.node.tell(session, { kind: 'events', stream, first, ended, ...(size <= NEWS_LIMIT && { events }) })
      },
      lost: (error) => {
        this.#followers.get(session)?.get(stream)?.close()
        lost(error)
      },
    })
  }

  #register(
    owner: StreamOwner,
    tag: string,
    stream: string,
    position: number,
    sink: ConstructorParameters<typeof Follower>[0]['sink'],
    leave?: () => void,
  ): Follower {
    this.#followers.get(owner.id)?.get(stream)?.close()
    const followers = this.#followers.get(owner.id) ?? new Map<string, Follower>()
    const follower: Follower = new Follower({
      log: this.backend.events,
      session: owner.id,
      tag,
      stream,
      position,
      sink,
      maxBuffered: this.options.maxBuffered,
      onclose: () => {
        leave?.()
        const current = this.#followers.get(owner.id)
        if (current?.get(stream) !== follower) return
        current.delete(stream)
        if (current.size === 0) this.#followers.delete(owner.id)
        if (this.#followers.size === 0) this.#stopKeepAlive()
      },
      ongap: (count) => {
        this.gaps += count
      },
    })
    followers.set(stream, follower)
    this.#followers.set(owner.id, followers)
    this.#startKeepAlive()
    return follower
  }

  #startKeepAlive(): void {
    const { keepAlive } = this.options
    if (keepAlive === 0 || this.#keepAlive) return
    this.#keepAlive = setInterval(() => {
      for (const followers of this.#followers.values()) {
        for (const follower of followers.values()) follower.comment(KEEP_ALIVE)
      }
    }, keepAlive)
    this.#keepAlive.unref()
  }

  #stopKeepAlive(): void {
    clearInterval(this.#keepAlive)
    this.#keepAlive = undefined
  }
}

/** Positions begin at the clock, so that a standalone stream that expired and begins again gives out none twice. */
function standaloneInit(): StreamInit {
  return { head: '{}', base: Date.now() }
}
