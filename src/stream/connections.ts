/** How connections come to follow streams, and how the newest one of a stream replaces the others, wherever they are. */
import type { EventLog, StreamInfo } from '../backend/backend.js'
import type { QuestionListener } from '../cluster/ask.js'
import type { Cluster } from '../cluster/cluster.js'
import { nodeOf, numberOf } from '../cluster/node.js'
import { isObject } from '../wire/jsonrpc.js'
import type { Caller, HttpReply } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import { primingEvent, retryHint, SSE_HEADERS } from '../wire/sse.js'
import { Connection } from './connection.js'
import { type Cursor, formatEventId, STANDALONE } from './event-id.js'
import { followAppended } from './news.js'
import type { OpenConnections } from './open-connections.js'
import { PendingConnection } from './pending-connection.js'
import type { StreamSession } from './stream-session.js'
import type { Takeover } from './takeover.js'
import { standaloneInit } from './writers.js'

/** How long the connection that followed a stream until now may take to end, in ms. */
const RELEASE_TIMEOUT = 500

/** What nodes ask each other about connections. */
const SUBJECT = 'connection'

interface ReplacedQuestion {
  /** A newer connection follows this stream: those here end, if they are not newer still. */
  replaced: string
  /** The number of the newest one that ends. */
  upTo: number
}

/** The position up to which the connection that ended had sent its stream. */
interface ReplacedAnswer {
  position: number
}

/** The number of a connection that began with its stream: older than any that was recorded in the log. */
const BEGUN = -1

export interface ConnectionsOptions {
  /** What clients are told to wait before they reconnect, in ms. */
  retryInterval: number
  /** Bytes written ahead to a slow reader. */
  maxBuffered: number
}

export class Connections {
  readonly #pending = new Map<string, Set<PendingConnection>>()
  /** The last position that a standalone connection of this node has sent before it ended, by session. */
  readonly #lastStandalonePosition = new Map<string, number>()
  /** By session and stream, the last connection of this node that is being recorded in the log. */
  readonly #recording = new Map<string, Promise<void>>()
  readonly #listener: QuestionListener = async (session, question) => {
    const { replaced, upTo } = question as ReplacedQuestion
    const position = await this.#release(session, replaced, upTo)
    return position === undefined ? undefined : ({ position } satisfies ReplacedAnswer)
  }
  #unlisten: (() => void) | undefined

  constructor(
    private readonly cluster: Cluster,
    private readonly log: EventLog,
    private readonly open: OpenConnections,
    private readonly takeover: Takeover,
    private readonly options: ConnectionsOptions,
  ) {}

  /** The number of connections of a session on this node, open or being made. */
  count(session: string): number {
    return this.open.count(session) + (this.#pending.get(session)?.size ?? 0)
  }

  /** Answers a POST with a stream that begins here. */
  begin(session: StreamSession, stream: string, reply: HttpReply): void {
    this.#connect(session, stream, undefined, 0, reply)
  }

  /**
   * Answers a GET: with the standalone stream, or the stream that the cursor names from there on. If nobody writes that one
   * any more, it is finished by one of the nodes where it is followed, on behalf of a caller there.
   *
   * @throws Refusal if there is no such stream, or it does not go on from the cursor.
   */
  async attach(session: StreamSession, cursor: Cursor | undefined, reply: HttpReply, caller: Caller): Promise<void> {
    const pending = new PendingConnection(cursor?.stream ?? STANDALONE)
    const all = this.#pending.get(session.id) ?? new Set()
    this.#pending.set(session.id, all.add(pending))
    this.#listen()
    try {
      await this.#attach(session, cursor, reply, caller, pending)
    } finally {
      pending.settle()
      all.delete(pending)
      if (all.size === 0) this.#pending.delete(session.id)
    }
  }

  /** Ends the connection that follows a stream, if it is here; the client comes back after the retry interval. */
  disconnect(session: string, stream: string): void {
    const connection = this.open.get(session, stream)
    connection?.write(retryHint(this.options.retryInterval))
    connection?.close()
  }

  /** Ends all connections of a session. */
  disconnectAll(session: string): void {
    for (const connection of this.open.of(session)) connection.close()
  }

  /** The session is no longer at hand here. */
  forget(session: string): void {
    if (this.count(session) === 0) this.#lastStandalonePosition.delete(session)
  }

  /** Ends all connections, telling the clients when to come back. */
  close(): void {
    for (const session of this.open.sessions()) {
      for (const { stream } of this.open.of(session)) this.disconnect(session, stream)
    }
    this.#unlisten?.()
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
    if (standalone && !(await this.log.open(id, STANDALONE, standaloneInit()))) throw new Refusal('sessionNotFound')
    const info = await this.#record(id, pending)
    if (info === undefined) throw new Refusal(standalone ? 'sessionNotFound' : 'lastEventId')
    if (!standalone && cursor) {
      if (cursor.position > info.last || cursor.position < info.first - 1) throw new Refusal('lastEventId')
      if (info.ended && cursor.position === info.last) return reply.send(204, { 'mcp-session-id': id })
    }
    const unfollow = await followAppended(this.cluster.news, id, ({ stream, first, events, ended }) =>
      this.open.get(id, stream)?.receive(first, events, ended),
    )
    const sent = await this.#releaseBefore(id, pending, info)
    // Without a cursor a client gets what nobody has got: all there is, or what comes after the last connection.
    const unsent = info.reader === undefined ? info.first - 1 : (sent ?? info.last)
    const position = cursor ? (standalone ? Math.min(cursor.position, info.last) : cursor.position) : unsent
    pending.settle(position)

    if (pending.superseded) {
      unfollow()
      return reply.stream(headersFor(id)).end()
    }
    const connection = this.#connect(session, stream, pending.name, position, reply, unfollow)
    connection.catchUp()
    if (info.writer !== undefined && !info.ended) {
      const { head, writer } = info
      await this.takeover.watch(connection, { session: id, stream, head, writer, caller })
    }
  }

  #connect(
    session: StreamSession,
    stream: string,
    name: string | undefined,
    position: number,
    reply: HttpReply,
    unfollow?: () => void,
  ): Connection {
    const { retryInterval, maxBuffered } = this.options
    const sink = reply.stream(headersFor(session.id))
    if (name !== undefined) {
      // A client that loses this connection before an event came through must still know where it was.
      const id = formatEventId(session.tag, stream, position)
      sink.write(session.priming ? primingEvent(id, retryInterval) : retryHint(retryInterval))
    }
    const connection: Connection = new Connection({
      log: this.log,
      session,
      stream,
      name,
      position,
      sink,
      maxBuffered,
      onclose: () => {
        unfollow?.()
        this.takeover.forget(connection)
        const last = this.open.get(session.id, stream) === connection
        if (last && stream === STANDALONE) this.#lastStandalonePosition.set(session.id, connection.position)
        this.open.remove(connection)
      },
      ongap: (count) => {
        this.open.gaps += count
      },
    })
    this.open.add(connection)
    this.#listen()
    reply.onclose(() => connection.gone())
    return connection
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
    for (const pending of this.#pending.get(session) ?? []) {
      if (pending.stream !== stream || pending.name === undefined || numberOf(pending.name) > upTo) continue
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
    const here = this.#release(session, stream, number(pending.name) - 1)
    // The node that answered the POST follows its stream without having recorded that.
    const before = info.reader ?? info.writer
    if (before === undefined) return undefined
    const question: ReplacedQuestion = { replaced: stream, upTo: number(info.reader) }
    const options = { timeout: RELEASE_TIMEOUT, except: this.#listener }
    try {
      const reply = await this.cluster.questions.ask(nodeOf(before), SUBJECT, session, question, options)
      return positionOf(reply.outcome === 'used' ? reply.answer : undefined) ?? (await here)
    } catch {
      return await here
    }
  }

  /** Not before there is something to be asked about, so that a transport that never gets a session can be collected. */
  #listen(): void {
    this.#unlisten ??= this.cluster.questions.listen(SUBJECT, this.#listener)
  }
}

function number(name: string | undefined): number {
  return name === undefined ? BEGUN : numberOf(name)
}

function positionOf(answer: unknown): number | undefined {
  return isObject(answer) && typeof answer.position === 'number' ? answer.position : undefined
}

function headersFor(session: string): Record<string, string> {
  return { ...SSE_HEADERS, 'mcp-session-id': session }
}
