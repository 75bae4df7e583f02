/** The streams that this node writes or follows: one connection a stream, fed from the event log. */
import type { StreamInit } from '../backend/backend.js'
import type { BoundedBackend } from '../backend/bounded.js'
import type { ClusterNode, StreamNews } from '../cluster/node.js'
import type { HttpReply, Sink } from '../http/message.js'
import { Refusal } from '../http/refusal.js'
import { type Cursor, formatEventId, STANDALONE, sessionTag } from './event-id.js'
import { Follower } from './follower.js'
import { KEEP_ALIVE, primingEvent, retryHint, SSE_HEADERS } from './sse.js'
import { StreamWriter, type WriterListener } from './writer.js'

/** Events up to this many characters travel with the news of them; bigger ones are read from the log. */
const NEWS_LIMIT = 4096
/** A follower looks into the log this often, in case that the news of an event was lost, in ms. */
const POLL_INTERVAL = 3000
/** How long the connection that followed a stream until now may take to end, in ms. */
const RELEASE_TIMEOUT = 250

export interface StreamsOptions {
  keepAlive: number
  retryInterval: number
  maxBuffered: number
  onerror(error: Error): void
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
  #standalone = new Map<string, StreamWriter>()
  #timers: NodeJS.Timeout[] = []

  constructor(
    private readonly node: ClusterNode,
    private readonly backend: BoundedBackend,
    private readonly options: StreamsOptions,
  ) {
    node.answer(async (session, ask) => {
      if (ask.kind !== 'attached') return false
      const follower = this.#followers.get(session)?.get(ask.stream)
      follower?.close()
      return follower !== undefined
    })
  }

  /** The number of connections that are open for a session on this node. */
  count(session: string): number {
    return this.#followers.get(session)?.size ?? 0
  }

  /** The sessions with a connection open on this node. */
  sessions(): string[] {
    return [...this.#followers.keys()]
  }

  /** A writer for a stream of the session that only this node writes: the answer to a POST. */
  writer(owner: StreamOwner, stream: string, head: object, lost: (error?: unknown) => void): StreamWriter {
    const init = { head: JSON.stringify(head), writer: this.node.id }
    return this.#writer(owner.id, stream, init, { lost, opened: () => this.#prime(owner, stream) })
  }

  /** Sends a message that belongs to no request. Of several nodes that send it under the same `batch`, one does. */
  async send(session: string, text: string, batch?: string): Promise<void> {
    let writer = this.#standalone.get(session)
    if (!writer) {
      const lost = (error: unknown) => {
        this.#standalone.delete(session)
        if (error instanceof Error) this.options.onerror(error)
      }
      writer = this.#writer(session, STANDALONE, standaloneInit(), { lost })
      this.#standalone.set(session, writer)
    }
    writer.push(text, batch === undefined ? {} : { batch })
    await writer.flushed()
    if (this.#standalone.get(session) === writer) this.#standalone.delete(session)
  }

  /** Answers with a stream that begins here, as the answer to a POST. */
  begin(owner: StreamOwner, stream: string, reply: HttpReply): void {
    const sink = reply.stream({ ...SSE_HEADERS, 'mcp-session-id': owner.id })
    const follower = this.#register(owner, stream, 0, sink)
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
    if (standalone) position = Math.min(position, info.last)
    else {
      if (position > info.last || position < info.first - 1) throw new Refusal('lastEventId')
      if (info.ended && position === info.last) return reply.send(204, { 'mcp-session-id': owner.id })
    }
    const leave = await this.node.join(owner.id, (news) => this.#hear(owner.id, news))
    // the node that answered the POST follows its stream without having attached
    const before = info.reader ?? info.writer
    if (before !== undefined && before !== this.node.id) {
      await this.node.ask(before, owner.id, { kind: 'attached', stream }, RELEASE_TIMEOUT).catch(() => {})
    }

    const sink = reply.stream({ ...SSE_HEADERS, 'mcp-session-id': owner.id })
    const { retryInterval } = this.options
    // A client that loses this connection before an event came through must still know where it was.
    const id = formatEventId(sessionTag(owner.id), stream, position)
    sink.write(owner.priming ? primingEvent(id, retryInterval) : retryHint(retryInterval))
    const follower = this.#register(owner, stream, position, sink, leave)
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

  /** Ends all connections, telling the clients when to come back. */
  close(): void {
    for (const [session, followers] of [...this.#followers]) {
      for (const stream of [...followers.keys()]) this.disconnect(session, stream)
    }
    this.#rest()
  }

  /** Resolves when all messages sent so far are in the log. */
  async flushed(): Promise<void> {
    await Promise.all([...this.#standalone.values()].map((writer) => writer.flushed()))
  }

  #hear(session: string, news: StreamNews): void {
    this.#followers.get(session)?.get(news.stream)?.receive(news.first, news.events, news.ended)
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
    listener: Pick<WriterListener, 'opened' | 'lost'>,
  ): StreamWriter {
    return new StreamWriter(this.backend.events, session, stream, init, {
      ...listener,
      appended: (first, events, ended) => {
        const follower = this.#followers.get(session)?.get(stream)
        if (follower) return follower.receive(first, events, ended)
        if (!this.node.shared) return
        const size = events.reduce((sum, event) => sum + event.length, 0)
        this.node.tell(session, { stream, first, ended, ...(size <= NEWS_LIMIT && { events }) })
      },
      lost: (error) => {
        this.#followers.get(session)?.get(stream)?.close()
        listener.lost(error)
      },
    })
  }

  #register(owner: StreamOwner, stream: string, position: number, sink: Sink, leave?: () => void): Follower {
    this.#followers.get(owner.id)?.get(stream)?.close()
    const followers = this.#followers.get(owner.id) ?? new Map<string, Follower>()
    const follower: Follower = new Follower({
      log: this.backend.events,
      session: owner.id,
      tag: sessionTag(owner.id),
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
        if (this.#followers.size === 0) this.#rest()
      },
      ongap: (count) => {
        this.gaps += count
      },
    })
    followers.set(stream, follower)
    this.#followers.set(owner.id, followers)
    if (this.#timers.length === 0) this.#wake()
    return follower
  }

  #wake(): void {
    const { keepAlive } = this.options
    if (keepAlive > 0)
      this.#timers.push(setInterval(() => this.#each((follower) => follower.comment(KEEP_ALIVE)), keepAlive))
    if (this.node.shared)
      this.#timers.push(setInterval(() => this.#each((follower) => follower.catchUp()), POLL_INTERVAL))
    for (const timer of this.#timers) timer.unref()
  }

  #rest(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer)
  }

  #each(work: (follower: Follower) => void): void {
    for (const followers of [...this.#followers.values()])
      for (const follower of [...followers.values()]) work(follower)
  }
}

/** Positions begin at the clock, so that a standalone stream that expired and begins again gives out none twice. */
function standaloneInit(): StreamInit {
  return { head: '{}', base: Date.now() }
}
