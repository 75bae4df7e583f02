/** The streams that this node writes or follows: one connection a stream, fed from the event log. */
import type { StreamInfo, StreamInit } from '../backend/backend.js'
import type { BoundedBackend } from '../backend/bounded.js'
import { type AskListener, type ClusterNode, nodeOf, type StreamNews } from '../cluster/node.js'
import type { HttpReply, Sink } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { KEEP_ALIVE, primingEvent, retryHint, SSE_HEADERS } from '../wire/sse.js'
import { Arrival } from './arrival.js'
import { type Cursor, formatEventId, STANDALONE, sessionTag } from './event-id.js'
import { Follower } from './follower.js'
import type { Orphan, StreamHead } from './orphan.js'
import { Orphans } from './orphans.js'
import { StreamWriter, type WriterListener } from './writer.js'

/** Events up to this many characters travel with the news of them; bigger ones are read from the log. */
const NEWS_LIMIT = 4096
/** A follower looks into the log this often, in case that the news of an event was lost, in ms. */
const POLL_INTERVAL = 3000
/** A follower looks this often whether the node that writes its stream is alive, in ms. */
const WATCH_INTERVAL = 500
/** A stream that is being written is kept from expiring this often, in ms; retention must be longer. */
const REFRESH_INTERVAL = 30_000
/** How long the connection that followed a stream until now may take to end, in ms. */
const RELEASE_TIMEOUT = 500

/** The turn of a connection that began with its stream. */
const BEGUN = -1

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
  /** Called when a connection of a session has ended. */
  onrest: (session: string) => void = () => {}
  /** How far the last connection of a session's standalone stream has got, if it was here and is no more. */
  #sent = new Map<string, number>()
  /** Connections that are being made, by session. */
  #arrivals = new Map<string, Set<Arrival>>()
  #lastTurn = new Map<string, Promise<void>>()
  #followers = new Map<string, Map<string, Follower>>()
  #standalone = new Map<string, StreamWriter>()
  /** Writers of streams that only this node writes. */
  #writers = new Set<StreamWriter>()
  #orphans: Orphans
  #timers: NodeJS.Timeout[] = []
  #listener: AskListener = async (session, ask) => {
    const position = ask.kind === 'attached' ? await this.#release(session, ask.stream, ask.turn) : undefined
    return position === undefined ? { used: false } : { used: true, position }
  }
  #unlisten: (() => void) | undefined
  #undistrust: (() => void) | undefined

  constructor(
    private readonly node: ClusterNode,
    private readonly backend: BoundedBackend,
    private readonly options: StreamsOptions,
  ) {
    const write = (session: string, stream: string, head: string, name: string) =>
      this.#writer(session, stream, { head, writer: name }, { lost: () => {} })
    this.#orphans = new Orphans(node, backend.events, write, options.onerror)
  }

  /** The number of connections of a session on this node, open or being made. */
  count(session: string): number {
    return (this.#followers.get(session)?.size ?? 0) + (this.#arrivals.get(session)?.size ?? 0)
  }

  /** The number of connections that are open on this node. */
  get open(): number {
    let open = 0
    for (const followers of this.#followers.values()) open += followers.size
    return open
  }

  /** The sessions with a connection open on this node. */
  sessions(): string[] {
    return [...this.#followers.keys()]
  }

  /** A writer for a stream of the session that only this node writes: the answer to a POST. */
  writer(owner: StreamOwner, stream: string, head: StreamHead, lost: (error?: unknown) => void): StreamWriter {
    const init = { head: JSON.stringify(head), writer: this.node.newWriter() }
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
    const follower = this.#register(owner, stream, 0, sink, { turn: BEGUN })
    reply.onclose(() => follower.gone())
  }

  /**
   * Answers a GET: with the standalone stream, or the stream that the cursor names from there on. If the node that writes
   * that one is gone, `finish` is called on one of the nodes where it is followed, with what is left to be done.
   */
  async attach(
    owner: StreamOwner,
    cursor: Cursor | undefined,
    reply: HttpReply,
    finish: (orphan: Orphan) => Promise<void>,
  ): Promise<void> {
    const arrival = new Arrival(cursor?.stream ?? STANDALONE)
    const arrivals = this.#arrivals.get(owner.id) ?? new Set()
    this.#arrivals.set(owner.id, arrivals.add(arrival))
    this.#listen()
    try {
      await this.#attach(owner, cursor, reply, finish, arrival)
    } finally {
      arrival.settle()
      arrivals.delete(arrival)
      if (arrivals.size === 0) this.#arrivals.delete(owner.id)
    }
  }

  async #attach(
    owner: StreamOwner,
    cursor: Cursor | undefined,
    reply: HttpReply,
    finish: (orphan: Orphan) => Promise<void>,
    arrival: Arrival,
  ): Promise<void> {
    const { events } = this.backend
    const { stream } = arrival
    const standalone = stream === STANDALONE
    if (standalone && !(await events.open(owner.id, STANDALONE, standaloneInit()))) throw new Refusal('sessionNotFound')
    const info = await this.#takeTurn(owner.id, arrival)
    if (info === undefined) throw new Refusal(standalone ? 'sessionNotFound' : 'lastEventId')
    if (!standalone && cursor) {
      if (cursor.position > info.last || cursor.position < info.first - 1) throw new Refusal('lastEventId')
      if (info.ended && cursor.position === info.last) return reply.send(204, { 'mcp-session-id': owner.id })
    }
    const leave = await this.node.join(owner.id, (news) => this.#hear(owner.id, news))
    const sent = await this.#releaseBefore(owner.id, arrival, info)
    // Without a cursor a client gets what nobody has got: all there is, or what comes after the last connection.
    const unsent = info.reader === undefined ? info.first - 1 : (sent ?? info.last)
    const position = cursor ? (standalone ? Math.min(cursor.position, info.last) : cursor.position) : unsent

    arrival.settle(position)

    const sink = reply.stream({ ...SSE_HEADERS, 'mcp-session-id': owner.id })
    if (arrival.superseded) {
      leave()
      return sink.end()
    }
    const { retryInterval } = this.options
    // A client that loses this connection before an event came through must still know where it was.
    const id = formatEventId(sessionTag(owner.id), stream, position)
    sink.write(owner.priming ? primingEvent(id, retryInterval) : retryHint(retryInterval))
    const follower = this.#register(owner, stream, position, sink, { turn: arrival.turn, leave })
    reply.onclose(() => follower.gone())
    follower.catchUp()
    if (info.writer !== undefined && !info.ended) {
      const { head, writer } = info
      await this.#orphans.watch(follower, { session: owner.id, stream, head, writer, finish })
    }
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
    this.#writers.clear()
    this.#rest()
    this.#unlisten?.()
    this.#undistrust?.()
  }

  /** Resolves when all messages sent so far are in the log. */
  async flushed(): Promise<void> {
    await Promise.all([...this.#standalone.values()].map((writer) => writer.flushed()))
  }

  /** Tells the log of a connection; one after the other, so that its order is also that of their turns. */
  async #takeTurn(session: string, arrival: Arrival): Promise<StreamInfo | undefined> {
    const key = `${session} ${arrival.stream}`
    const turn = (this.#lastTurn.get(key) ?? Promise.resolve()).then(() => {
      arrival.turn = this.node.turns++
      return this.backend.events.attach(session, arrival.stream, this.#readerOf(arrival.turn))
    })
    const settled = turn.then(
      () => {},
      () => {},
    )
    this.#lastTurn.set(key, settled)
    try {
      return await turn
    } finally {
      if (this.#lastTurn.get(key) === settled) this.#lastTurn.delete(key)
    }
  }

  #readerOf(turn: number): string {
    return `${this.node.id}:${turn}`
  }

  /** Ends the connections that follow a stream here, or are about to, up to a turn: the last position that was sent. */
  async #release(session: string, stream: string, turn: number): Promise<number | undefined> {
    let begins: Promise<number | undefined> | undefined
    for (const arrival of this.#arrivals.get(session) ?? []) {
      if (arrival.stream !== stream || arrival.turn > turn) continue
      arrival.superseded = true
      begins = arrival.begins
    }
    const follower = this.#followers.get(session)?.get(stream)
    const current = follower && follower.turn <= turn ? follower : undefined
    current?.close()
    const sent = current?.position ?? (stream === STANDALONE ? this.#sent.get(session) : undefined)
    return (begins && (await begins)) ?? sent
  }

  /** The session is no longer at hand here. */
  forget(session: string): void {
    if (this.count(session) === 0) this.#sent.delete(session)
  }

  /** Ends the connection that followed the stream until now, wherever it is: the last position it has sent, if that is known. */
  async #releaseBefore(session: string, arrival: Arrival, info: StreamInfo): Promise<number | undefined> {
    const { stream } = arrival
    // the node that answered the POST follows its stream without having attached
    const before = info.reader ?? info.writer
    const here = this.#release(session, stream, arrival.turn - 1)
    if (before === undefined) return undefined
    const turn = info.reader === undefined ? BEGUN : Number(before.slice(before.indexOf(':') + 1))
    const options = { timeout: RELEASE_TIMEOUT, except: this.#listener }
    try {
      const there = await this.node.ask(nodeOf(before), session, { kind: 'attached', stream, turn }, options)
      return there.position ?? (await here)
    } catch {
      return await here
    }
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
    const writer: StreamWriter = new StreamWriter(this.backend.events, session, stream, init, {
      ...listener,
      appended: (first, events, ended) => {
        if (ended) this.#wrote(writer, init)
        const follower = this.#followers.get(session)?.get(stream)
        if (follower) return follower.receive(first, events, ended)
        if (!this.node.shared) return
        const size = events.reduce((sum, event) => sum + event.length, 0)
        this.node.tell(session, { stream, first, ended, ...(size <= NEWS_LIMIT && { events }) })
      },
      lost: (error) => {
        this.#wrote(writer, init)
        this.#followers.get(session)?.get(stream)?.close()
        listener.lost(error)
      },
    })
    if (init.writer === undefined) return writer
    this.#writers.add(writer)
    this.#listen()
    this.#wake()
    return writer
  }

  #wrote(writer: StreamWriter, { writer: name }: StreamInit): void {
    if (name === undefined) return
    this.node.writing.delete(name)
    this.#writers.delete(writer)
    this.#rest()
  }

  #register(
    owner: StreamOwner,
    stream: string,
    position: number,
    sink: Sink,
    { turn, leave }: { turn: number; leave?: () => void },
  ): Follower {
    this.#followers.get(owner.id)?.get(stream)?.close()
    const followers = this.#followers.get(owner.id) ?? new Map<string, Follower>()
    const follower: Follower = new Follower({
      log: this.backend.events,
      session: owner.id,
      tag: sessionTag(owner.id),
      stream,
      turn,
      reader: turn === BEGUN ? undefined : this.#readerOf(turn),
      position,
      sink,
      maxBuffered: this.options.maxBuffered,
      onclose: () => {
        leave?.()
        this.#orphans.forget(follower)
        const current = this.#followers.get(owner.id)
        if (current?.get(stream) !== follower) return
        if (stream === STANDALONE) this.#sent.set(owner.id, follower.position)
        current.delete(stream)
        if (current.size === 0) this.#followers.delete(owner.id)
        this.#rest()
        this.onrest(owner.id)
      },
      ongap: (count) => {
        this.gaps += count
      },
    })
    followers.set(stream, follower)
    this.#followers.set(owner.id, followers)
    this.#listen()
    this.#wake()
    return follower
  }

  /** Not before there is something to be asked about; see Sessions. */
  #listen(): void {
    this.#unlisten ??= this.node.answer(this.#listener)
    this.#undistrust ??= this.node.whenDistrusted(() => this.#refresh())
  }

  #wake(): void {
    if (this.#timers.length > 0) return
    const { keepAlive } = this.options
    if (keepAlive > 0)
      this.#timers.push(setInterval(() => this.#each((follower) => follower.comment(KEEP_ALIVE)), keepAlive))
    if (this.node.shared)
      this.#timers.push(setInterval(() => this.#each((follower) => follower.catchUp()), POLL_INTERVAL))
    this.#timers.push(setInterval(() => void this.#orphans.look(), WATCH_INTERVAL))
    this.#timers.push(setInterval(() => this.#refresh(), REFRESH_INTERVAL))
    for (const timer of this.#timers) timer.unref()
  }

  #rest(): void {
    if (this.#followers.size > 0 || this.#writers.size > 0) return
    for (const timer of this.#timers.splice(0)) clearInterval(timer)
  }

  /** A stream that another node has finished meanwhile turns out to be lost. */
  #refresh(): void {
    for (const writer of this.#writers) writer.refresh().catch(() => {})
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
