/** How connections come to follow streams, and how the newest one of a stream replaces the others, wherever they are. */
import type { EventLog, StreamInfo, StreamSlice } from '../backend/backend.js'
import type { QuestionListener } from '../cluster/ask.js'
import type { Cluster } from '../cluster/cluster.js'
import { nodeOf, numberOf } from '../cluster/node.js'
import type { JSONRPCResponse, RequestId } from '../wire/jsonrpc.js'
import type { Limits } from '../wire/limits.js'
import type { Caller, HttpReply } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { cursorEvent, messageEvent, primingEvent, retryHint, SSE_HEADERS } from '../wire/sse.js'
import { Connection } from './connection.js'
import { type Cursor, formatEventId, STANDALONE, sharedStreamInit } from './event-id.js'
import { Keeping } from './keeping.js'
import { followAppended } from './news.js'
import type { OpenConnections } from './open-connections.js'
import { PendingConnection, PendingConnections } from './pending-connection.js'
import { checkReadable } from './readable.js'
import { isReplacedQuestion, positionOf, type ReplacedAnswer, type ReplacedQuestion, SUBJECT } from './replaced.js'
import { SentPosition } from './sent-position.js'
import type { StreamSession } from './stream-session.js'
import type { Takeover } from './takeover.js'
import { messagesLost, outcomeUnknown, type StreamHead } from './unfinished.js'
import { spread } from './writers.js'

/** How long the connection that followed a stream until now may take to end, in ms: time to ask its node again. */
const RELEASE_TIMEOUT = 1500

/** How long the position of a connection that has ended is remembered, in ms: longer than the log takes to know it. */
const REMEMBERED_FOR = 10_000

/**
 * How far a client may be ahead of the log of a stream whose writer mends it, if it went backwards; an event id beyond is not one
 * that we gave out.
 */
const MAX_AHEAD = 10_000

/** The number of a connection that began with its stream: older than any that was recorded in the log. */
const BEGUN = -1

export interface ConnectionsOptions {
  /** What clients are told to wait before they reconnect, in ms. */
  retryInterval: number
  /** Bytes written ahead to a slow reader. */
  maxBuffered: number
  /** Whether the log is encrypted. */
  sealed: boolean
  limits: Pick<Limits, 'streams' | 'allStreams'>
  onerror(error: Error): void
}

export class Connections {
  readonly #pending: PendingConnections
  /** The last position that a standalone connection has sent before it ended here, by session, until the log surely knows it. */
  readonly #lastStandalonePosition = new Map<string, number>()
  /** By session and stream, the last connection of this node that is being recorded in the log. */
  readonly #recording = new Map<string, Promise<void>>()
  /** How far the standalone connections of this node have got. */
  readonly #sentPositions = new Set<SentPosition>()
  readonly #keeping: Keeping
  readonly #listener: QuestionListener
  #closed = false

  constructor(
    private readonly cluster: Cluster,
    private readonly log: EventLog,
    private readonly open: OpenConnections,
    private readonly takeover: Takeover,
    private readonly options: ConnectionsOptions,
  ) {
    this.#pending = new PendingConnections(open, options.limits)
    this.#keeping = new Keeping(log, open)
    this.#listener = cluster.questions.listener(isReplacedQuestion, async (session, { replaced, upTo }) => {
      const position = await this.#release(session, replaced, upTo)
      return position === undefined ? undefined : ({ position } satisfies ReplacedAnswer)
    })
    takeover.ongone = (connection, head) => this.#answerAll(connection, head, outcomeUnknown)
  }

  /** The number of connections of a session on this node, open or being made. */
  count(session: string): number {
    return this.#pending.countAll(session)
  }

  /** Whether one more connection of a session may be open. */
  hasRoom(session: string): boolean {
    return this.#pending.reached(session) === undefined
  }

  /** Answers a POST with a stream that begins here. */
  begin(session: StreamSession, stream: string, reply: HttpReply): void {
    this.#connect(session, { stream, position: 0 }, undefined, reply)
  }

  /**
   * Answers a GET: with the standalone stream, or the stream that the cursor names from there on. If nobody writes that one
   * any more, it is finished by one of the nodes where it is followed, on behalf of a caller there.
   *
   * @throws Refusal if there is no such stream, it does not go on from the cursor, or too many are open.
   */
  async attach(session: StreamSession, cursor: Cursor | undefined, reply: HttpReply, caller: Caller): Promise<void> {
    const pending = new PendingConnection(cursor?.stream ?? STANDALONE)
    this.#pending.add(session.id, pending)
    const unlisten = this.#listen(session.id)
    try {
      await this.#attach(session, cursor, reply, caller, pending)
    } finally {
      pending.settle()
      unlisten()
      this.#pending.remove(session.id, pending)
      if (this.count(session.id) === 0) this.open.onclosed(session.id)
    }
  }

  /** Ends the connection that follows a stream, if it is here; the client comes back after the retry interval. */
  disconnect(session: string, stream: string): void {
    const connection = this.open.get(session, stream)
    connection?.write(this.#retryHint())
    connection?.close()
  }

  /** Ends all connections of a session that is over. */
  end(session: string): void {
    for (const connection of this.open.of(session)) connection.close()
    this.#lastStandalonePosition.delete(session)
  }

  /** Resolves when the log knows how far the standalone connections have got. */
  async recorded(): Promise<void> {
    await Promise.all([...this.#sentPositions].map((sent) => sent.write()))
  }

  /**
   * Breaks all connections off, telling the clients when to come back. Many clients take an end in good order for one that is
   * meant to stay.
   */
  async close(): Promise<void> {
    this.#closed = true
    this.#keeping.stop()
    await Promise.all(
      this.open.all().map((connection) => {
        connection.write(this.#retryHint())
        return connection.breakOff()
      }),
    )
  }

  async #attach(
    session: StreamSession,
    cursor: Cursor | undefined,
    reply: HttpReply,
    caller: Caller,
    pending: PendingConnection,
  ): Promise<void> {
    const { id } = session
    const { stream } = pending
    const standalone = stream === STANDALONE
    if (standalone && !(await this.log.open(id, STANDALONE, sharedStreamInit()))) throw new Refusal('sessionNotFound')
    const info = await this.#record(id, pending)
    if (info === undefined) throw new Refusal(standalone ? 'sessionNotFound' : 'lastEventId')
    if (!standalone && cursor) {
      const last = info.ended ? info.last : info.last + MAX_AHEAD
      if (cursor.position > last || cursor.position < info.first - 1) throw new Refusal('lastEventId')
      if (info.ended && cursor.position === info.last) return reply.send(204, { 'mcp-session-id': id })
    }
    if (this.options.sealed) await checkReadable(this.log, id, stream, cursor?.position, info)
    const unfollow = await followAppended(this.cluster.news, id, ({ stream, first, events, ended }) =>
      this.open.get(id, stream)?.receive(first, events, ended),
    )
    let sent: number | undefined
    try {
      sent = await this.#releaseBefore(id, pending, info)
      // Nobody would end a connection that begins after all others were.
      if (this.#closed) throw new Refusal('draining')
    } catch (error) {
      unfollow()
      throw error
    }
    // Without a cursor a client gets what nobody has got. If nothing is known to have been sent, that is all there is.
    const unsent = sent ?? info.first - 1
    // What the client has beyond a log that any node writes, the log has lost; and gives the positions to others.
    const isAhead = standalone && cursor !== undefined && cursor.position > info.last
    const position = isAhead ? info.last : (cursor?.position ?? unsent)
    pending.settle(position)

    if (pending.superseded) {
      unfollow()
      return reply.stream(headersFor(id)).end()
    }
    const start = isAhead || cursor === undefined ? { stream, position } : cursor
    const connection = this.#connect(session, start, pending.name, reply, unfollow)
    if (isAhead) this.#wentBack(connection, session, undefined)
    connection.catchUp()
    if (info.writer !== undefined && !info.ended) {
      const { head, writer } = info
      await this.takeover.watch(connection, { session: id, stream, head, writer, caller })
    }
  }

  #connect(
    session: StreamSession,
    start: Cursor,
    name: string | undefined,
    reply: HttpReply,
    unfollow?: () => void,
  ): Connection {
    const { log, open } = this
    const { stream, position, mark } = start
    const sink = reply.stream(headersFor(session.id))
    if (name !== undefined) sink.write(this.#cursor(session, start))
    const standalone = name !== undefined && stream === STANDALONE
    const sent = standalone ? new SentPosition(log, session.id, stream, position, () => connection.position) : undefined
    if (sent) this.#sentPositions.add(sent)
    const unlisten = this.#listen(session.id)
    const connection: Connection = new Connection({
      log,
      session,
      stream,
      name,
      position,
      mark,
      sink,
      sent,
      maxBuffered: this.options.maxBuffered,
      onclose: () => {
        unfollow?.()
        unlisten()
        this.takeover.forget(connection)
        if (sent) {
          this.#sentPositions.delete(sent)
          void sent.end()
          if (open.get(session.id, stream) === connection) this.#remember(session.id, connection.position)
        }
        open.remove(connection)
      },
      onwrote: () => open.wrote(connection),
      onmissing: () => this.#missing(connection),
      ongap: (slice) => this.#gap(connection, session, slice),
      onregress: (count) => this.#wentBack(connection, session, count),
    })
    open.add(connection)
    this.#keeping.start()
    reply.onclose(() => connection.gone())
    return connection
  }

  #remember(session: string, position: number): void {
    this.#lastStandalonePosition.set(session, position)
    const unlisten = this.#listen(session)
    setTimeout(() => {
      unlisten()
      if (this.#lastStandalonePosition.get(session) === position) this.#lastStandalonePosition.delete(session)
    }, REMEMBERED_FOR).unref()
  }

  /** A client that loses its connection before an event came through must still know where it was. */
  #cursor({ tag, priming }: StreamSession, { stream, position, mark }: Cursor): string {
    const id = formatEventId(tag, stream, position, mark)
    const retry = spread(this.options.retryInterval)
    return priming ? primingEvent(id, retry) : cursorEvent(id, retry)
  }

  #retryHint(): string {
    return retryHint(spread(this.options.retryInterval))
  }

  /** The log does not know the stream of a connection, or not the connection. */
  async #missing(connection: Connection): Promise<void> {
    const { session, stream, name, position } = connection
    if (stream !== STANDALONE || name === undefined) {
      // Whoever writes it opens it again; if nobody does, the takeover says so.
      if (!this.takeover.suspect(connection)) connection.close()
      return
    }
    const { head, base = 0 } = sharedStreamInit()
    try {
      if (!(await this.log.open(session, stream, { head, base: Math.max(base, position) }))) return connection.close()
      await this.log.attach(session, stream, name)
    } catch {
      // The backend is away; the next look finds out.
    }
  }

  /** Events are lost that the client has not got: false if its stream cannot go on without them. */
  #gap(connection: Connection, session: StreamSession, slice: StreamSlice): boolean {
    const count = slice.first - connection.position - 1
    this.open.lost += count
    this.options.onerror(
      new Error(`${count} events of a stream are lost: the log no longer held them when they were due`),
    )
    if (connection.stream === STANDALONE) {
      this.#tellLost(connection, session)
      return true
    }
    this.#answerAll(connection, slice.head, messagesLost)
    return false
  }

  /** The log of a standalone stream lost `count` events that the client has; undefined: perhaps also some that it has not got. */
  #wentBack(connection: Connection, session: StreamSession, count: number | undefined): void {
    const lost =
      count === undefined
        ? 'further than is known here, and messages may be lost; its client is told'
        : `by ${count} events that its client has got; it is sent what came in their place`
    this.options.onerror(new Error(`a standalone stream went backwards in the log, ${lost}`))
    if (count === undefined) this.#tellLost(connection, session)
  }

  #tellLost(connection: Connection, { priming }: StreamSession): void {
    const { error } = messagesLost(0)
    if (priming) connection.write(messageEvent(undefined, JSON.stringify({ jsonrpc: '2.0', error })))
  }

  /** Answers all requests of a stream, without event ids, and ends its connection. */
  #answerAll(connection: Connection, head: string, answer: (id: RequestId) => JSONRPCResponse): void {
    const { requests = [] } = JSON.parse(head) as Partial<StreamHead>
    for (const { id } of requests) connection.write(messageEvent(undefined, JSON.stringify(answer(id))))
    connection.close()
  }

  /** Tells the log of a connection; one after the other, so that its order is also that of their names. */
  async #record(session: string, pending: PendingConnection): Promise<StreamInfo | undefined> {
    const key = `${session} ${pending.stream}`
    const recorded = (this.#recording.get(key) ?? Promise.resolve()).then(() => {
      const name = this.cluster.node.newName()
      pending.name = name
      return this.log.attach(session, pending.stream, name)
    })
    const settled = recorded.then(
      () => {},
      () => {},
    )
    this.#recording.set(key, settled)
    try {
      return await recorded
    } finally {
      if (this.#recording.get(key) === settled) this.#recording.delete(key)
    }
  }

  /** Ends the connections that follow a stream here, or are about to, up to a number: the last position that was sent. */
  async #release(session: string, stream: string, upTo: number): Promise<number | undefined> {
    let begins: Promise<number | undefined> | undefined
    for (const pending of this.#pending.of(session, stream)) {
      if (pending.name === undefined || numberOf(pending.name) > upTo) continue
      pending.superseded = true
      begins = pending.begins
    }
    const connection = this.open.get(session, stream)
    const current = connection && number(connection.name) <= upTo ? connection : undefined
    current?.close()
    const sent = current?.position ?? (stream === STANDALONE ? this.#lastStandalonePosition.get(session) : undefined)
    return (begins && (await begins)) ?? sent
  }

  /** Ends the connection that followed the stream until now, wherever it is: the last position it has sent, if that is known. */
  async #releaseBefore(session: string, pending: PendingConnection, info: StreamInfo): Promise<number | undefined> {
    const { stream } = pending
    const isReaderHere = info.reader !== undefined && this.open.get(session, stream)?.name === info.reader
    const here = this.#release(session, stream, number(pending.name) - 1)
    if (isReaderHere) return here
    // The node that answered the POST follows its stream without having recorded that.
    const before = info.reader ?? info.writer
    if (before === undefined) return undefined
    const there = await this.#askToRelease(nodeOf(before), session, stream, number(info.reader))
    // A node that does not answer has told the log how far it got; what it said since is not known.
    const recorded = there ?? (await this.log.read(session, stream, Number.MAX_SAFE_INTEGER, 1))?.sent
    const known = [recorded, await here].filter((position) => position !== undefined)
    return known.length === 0 ? undefined : Math.max(...known)
  }

  /** Undefined: it does not answer, or has no such connection. */
  async #askToRelease(node: string, session: string, stream: string, upTo: number): Promise<number | undefined> {
    const question: ReplacedQuestion = { replaced: stream, upTo }
    const options = { timeout: RELEASE_TIMEOUT, except: this.#listener }
    const asked = this.cluster.questions.ask(node, SUBJECT, session, question, options)
    const reply = await asked.catch(() => undefined)
    return positionOf(reply?.outcome === 'used' ? reply.answer : undefined)
  }

  /** Only while there is something to be asked about. */
  #listen(session: string): () => void {
    return this.cluster.questions.listen(SUBJECT, session, this.#listener)
  }
}

function number(name: string | undefined): number {
  return name === undefined ? BEGUN : numberOf(name)
}

function headersFor(session: string): Record<string, string> {
  return { ...SSE_HEADERS, 'mcp-session-id': session }
}
