/** The writers of this node: one for each stream that is written here. */
import { DEFAULT_RETENTION, type EventLog, type StreamInit } from '../backend/backend.js'
import type { QuestionListener } from '../cluster/ask.js'
import type { Cluster } from '../cluster/cluster.js'
import { Interval } from '../util/interval.js'
import { within } from '../util/within.js'
import { isObject } from '../wire/jsonrpc.js'
import { primingEvent } from '../wire/sse.js'
import type { Connection } from './connection.js'
import { formatEventId, STANDALONE, sharedStreamInit } from './event-id.js'
import { withMark } from './mark.js'
import { tellAppended } from './news.js'
import type { OpenConnections } from './open-connections.js'
import type { StreamSession } from './stream-session.js'
import type { StreamHead } from './unfinished.js'
import { StreamWriter, type WriterListener } from './writer.js'

/** A stream that is being written is kept from expiring at least this often, in ms. */
const MAX_REFRESH_INTERVAL = 30_000

/** How many events of a standalone stream may wait in the log for a client before its servers have to wait, too. */
const MAX_BEHIND = 1000
/** How long to wait for a message to be in the log, in ms. */
const DURABLE_PATIENCE = 5000

/** The name of the writer of a stream that its node has left to others: it is no node's. */
const LEFT = ':left'

/** What nodes ask each other about writers. */
const SUBJECT = 'writer'

interface WritingQuestion {
  /** A writer's name: is it still writing? */
  writing: string
}

function isWritingQuestion(question: unknown): question is WritingQuestion {
  return isObject(question) && typeof question.writing === 'string'
}

export interface WritersOptions {
  /** What clients are told to wait before they reconnect, in ms. */
  retryInterval: number
  onerror(error: Error): void
}

export class Writers {
  /** Writers of standalone streams, which any node may write, while they have something to write. */
  readonly #standalone = new Map<string, StreamWriter>()
  /** Writers of streams that only this node writes, and their names. */
  readonly #named = new Map<StreamWriter, string>()
  /** Those names, and names under which this node may have claimed a stream; each with the way to be asked about it no more. */
  readonly #names = new Map<string, () => void>()
  /** The streams that only this node writes. */
  readonly #streams = new Set<string>()
  readonly #refreshing: Interval
  readonly #listener: QuestionListener
  #untell: (() => void) | undefined

  constructor(
    private readonly cluster: Cluster,
    private readonly log: EventLog,
    private readonly connections: OpenConnections,
    private readonly options: WritersOptions,
  ) {
    const { ttl = DEFAULT_RETENTION.ttl } = log
    this.#listener = cluster.questions.listener(isWritingQuestion, async (_session, { writing }) =>
      this.#names.has(writing) ? true : undefined,
    )
    this.#refreshing = new Interval(Math.min(MAX_REFRESH_INTERVAL, refreshInterval(ttl)), () => this.#refresh())
  }

  /**
   * A writer for a new stream that only this node writes: the answer to a POST.
   *
   * @param lost Called if another node goes on with the stream, or the session is over.
   */
  begin(session: StreamSession, stream: string, head: StreamHead, lost: () => void): StreamWriter {
    const init = { head: JSON.stringify(head), writer: this.reserve(session.id) }
    return this.#start(session.id, stream, init, { lost, opened: () => this.#prime(session, stream) })
  }

  /** A writer that goes on with a stream that this node has claimed under a name. */
  goOn(session: string, stream: string, head: string, name: string, after: number): StreamWriter {
    return this.#start(session, stream, { head, writer: name, base: after }, { lost: () => {} })
  }

  /**
   * Leaves a stream to whoever finds it unfinished, once all that was written is in the log; false: it is lost, or was taken
   * back because it is wanted again by then.
   */
  async leave(session: string, stream: string, writer: StreamWriter, isWanted: () => boolean): Promise<boolean> {
    const name = this.#named.get(writer)
    if (name === undefined || !(await writer.open())) return false
    await writer.flushed()
    if (!(await this.log.claim(session, stream, LEFT, name))) return false
    if (isWanted() && (await this.log.claim(session, stream, name, LEFT))) return false
    writer.stop()
    this.#forget(writer)
    return true
  }

  /** A new name for a writer; to the other nodes it writes until it is released, or its stream has ended. */
  reserve(session: string): string {
    const { node, questions } = this.cluster
    const name = node.newName()
    this.#names.set(name, questions.listen(SUBJECT, session, this.#listener))
    // A stream that another node has finished meanwhile turns out to be lost.
    this.#untell ??= node.whenDistrusted(() => this.#refresh())
    return name
  }

  release(name: string): void {
    this.#names.get(name)?.()
    this.#names.delete(name)
  }

  /** Whether a stream, which is not a standalone one, is written here. */
  writes(stream: string): boolean {
    return this.#streams.has(stream)
  }

  /** Whether a writer of a living node is still writing; undefined: its node does not say. */
  async isWriting(session: string, name: string, node: string): Promise<boolean | undefined> {
    if (this.#names.has(name)) return true
    const question: WritingQuestion = { writing: name }
    const { outcome } = await this.cluster.questions.ask(node, SUBJECT, session, question)
    return outcome === 'unreached' ? undefined : outcome === 'used'
  }

  /**
   * Sends a message that belongs to no request; of several nodes that send it under the same `batch`, one does. Resolves
   * when more may be sent.
   */
  async send(session: string, text: string, batch?: string): Promise<void> {
    const writer = this.#push(session, text, batch)
    await writer.room()
  }

  /**
   * The same; resolves when the message is in the log.
   *
   * @throws Late if the log does not take it in time; it still will when it is back.
   */
  async sendDurably(session: string, text: string, batch?: string): Promise<void> {
    const writer = this.#push(session, text, batch)
    await within(DURABLE_PATIENCE, writer.flushed())
  }

  /** Resolves when all that was to be written so far, answers included, is in the log. */
  async flushed(): Promise<void> {
    await Promise.all([...this.#standalone.values(), ...this.#named.keys()].map((writer) => writer.flushed()))
  }

  close(): void {
    for (const writer of [...this.#named.keys(), ...this.#standalone.values()]) writer.stop()
    this.#named.clear()
    this.#streams.clear()
    this.#standalone.clear()
    this.#refreshing.stop()
    for (const name of [...this.#names.keys()]) this.release(name)
    this.#untell?.()
  }

  #push(session: string, text: string, batch?: string): StreamWriter {
    const writer = this.#standalone.get(session) ?? this.#startStandalone(session)
    if (writer.overfull) {
      this.connections.lost++
      this.options.onerror(new Error('a message for a standalone stream was dropped: too many wait for the event log'))
    } else writer.push(withMark(text, batch), batch === undefined ? {} : { batch })
    return writer
  }

  #startStandalone(session: string): StreamWriter {
    const forget = () => {
      if (this.#standalone.get(session) === writer) this.#standalone.delete(session)
    }
    const writer: StreamWriter = this.#writer(session, STANDALONE, sharedStreamInit(), {
      idle: forget,
      lost: forget,
    })
    this.#standalone.set(session, writer)
    return writer
  }

  #start(
    session: string,
    stream: string,
    init: StreamInit & { writer: string },
    { opened, lost }: Pick<WriterListener, 'opened' | 'lost'>,
  ): StreamWriter {
    const writer: StreamWriter = this.#writer(session, stream, init, {
      ...(opened && { opened }),
      ended: () => this.#forget(writer),
      late: (events, after) => this.connections.get(session, stream)?.receiveLate(events, after) ?? false,
      lost: () => {
        this.#forget(writer)
        // The client has turned to another node, which goes on with the stream.
        this.connections.get(session, stream)?.close()
        lost()
      },
    })
    this.#named.set(writer, init.writer)
    this.#streams.add(stream)
    this.#refreshing.start()
    return writer
  }

  /** @param ended Called when the stream is written to its end. */
  #writer(
    session: string,
    stream: string,
    init: StreamInit,
    { ended: onended, ...listener }: Omit<WriterListener, 'appended'> & { ended?: () => void },
  ): StreamWriter {
    return new StreamWriter(this.log, session, stream, init, {
      ...listener,
      appended: (first, events, ended) => {
        if (ended) onended?.()
        const connection = this.connections.get(session, stream)
        connection?.receive(first, events, ended)
        if (connection) return this.#roomFor(connection, first + events.length - 1)
        if (this.cluster.node.shared) tellAppended(this.cluster.news, session, { stream, first, events, ended })
        return undefined
      },
    })
  }

  /** Resolves when the next events may be written. Those of a standalone stream can wait in the log for a slow client, some. */
  #roomFor(connection: Connection, last: number): Promise<void> | undefined {
    const behind = last - connection.position
    return connection.stream === STANDALONE && behind < MAX_BEHIND ? undefined : connection.room()
  }

  /** Tells the client where the stream begins, now that it is in the log, so that it can resume before the first event. */
  #prime({ id, tag, priming }: StreamSession, stream: string): void {
    if (!priming) return
    const event = primingEvent(formatEventId(tag, stream, 0), spread(this.options.retryInterval))
    this.connections.get(id, stream)?.write(event)
  }

  #forget(writer: StreamWriter): void {
    const name = this.#named.get(writer)
    if (name === undefined) return
    this.release(name)
    this.#named.delete(writer)
    this.#streams.delete(writer.stream)
    if (this.#named.size === 0) this.#refreshing.stop()
  }

  #refresh(): void {
    for (const writer of this.#named.keys()) writer.refresh().catch(() => {})
  }
}

/** How often a stream that is kept for `ttl` must be refreshed so that it does not expire, with time for several attempts. */
export function refreshInterval(ttl: number): number {
  return Math.min(ttl / 4, 2 ** 31 - 1)
}

/** What one client is told to wait: up to half as much again, so that not all come back at the same moment. */
export function spread(retryInterval: number): number {
  return Math.round(retryInterval * (1 + Math.random() / 2))
}
