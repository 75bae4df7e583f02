/** The writers of this node: one for each stream that is written here. */
import type { EventLog, StreamInit } from '../backend/backend.js'
import type { Cluster } from '../cluster/cluster.js'
import { Interval } from '../util/interval.js'
import { primingEvent } from '../wire/sse.js'
import { formatEventId, STANDALONE } from './event-id.js'
import { tellAppended } from './news.js'
import type { OpenConnections } from './open-connections.js'
import type { StreamSession } from './stream-session.js'
import type { StreamHead } from './unfinished.js'
import { StreamWriter, type WriterListener } from './writer.js'

/** A stream that is being written is kept from expiring this often, in ms; retention must be longer. */
const REFRESH_INTERVAL = 30_000

/** What nodes ask each other about writers. */
const SUBJECT = 'writer'

interface WritingQuestion {
  /** A writer's name: is it still writing? */
  writing: string
}

export interface WritersOptions {
  /** What clients are told to wait before they reconnect, in ms. */
  retryInterval: number
  onerror(error: Error): void
}

export class Writers {
  /** Writers of standalone streams, which any node may write, while they have something to write. */
  readonly #standalone = new Map<string, StreamWriter>()
  /** Writers of streams that only this node writes. */
  readonly #named = new Set<StreamWriter>()
  /** Their names, and names under which this node may have claimed a stream. */
  readonly #names = new Set<string>()
  readonly #refreshing = new Interval(REFRESH_INTERVAL, () => this.#refresh())
  #unlisten: (() => void) | undefined

  constructor(
    private readonly cluster: Cluster,
    private readonly log: EventLog,
    private readonly connections: OpenConnections,
    private readonly options: WritersOptions,
  ) {}

  /** A writer for a new stream that only this node writes: the answer to a POST. */
  begin(session: StreamSession, stream: string, head: StreamHead, lost: () => void): StreamWriter {
    const init = { head: JSON.stringify(head), writer: this.reserve() }
    return this.#begin(session.id, stream, init, { lost, opened: () => this.#prime(session, stream) })
  }

  /** A writer that goes on with a stream that this node has claimed under a name. */
  goOn(session: string, stream: string, head: string, name: string): StreamWriter {
    return this.#begin(session, stream, { head, writer: name }, { lost: () => {} })
  }

  /** A new name for a writer; to the other nodes it writes until it is released, or its stream has ended. */
  reserve(): string {
    const name = this.cluster.node.newName()
    this.#names.add(name)
    this.#listen()
    return name
  }

  release(name: string): void {
    this.#names.delete(name)
  }

  /** Whether a name of this node is writing: here, or elsewhere in this process. */
  async isWritingHere(session: string, name: string): Promise<boolean> {
    const question: WritingQuestion = { writing: name }
    const { questions, node } = this.cluster
    return this.#names.has(name) || (await questions.ask(node.id, SUBJECT, session, question)).outcome === 'used'
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

  /** Resolves when all messages sent so far are in the log. */
  async flushed(): Promise<void> {
    await Promise.all([...this.#standalone.values()].map((writer) => writer.flushed()))
  }

  close(): void {
    this.#named.clear()
    this.#refreshing.stop()
    this.#unlisten?.()
  }

  #begin(
    session: string,
    stream: string,
    init: StreamInit & { writer: string },
    listener: Pick<WriterListener, 'opened' | 'lost'>,
  ): StreamWriter {
    const done = () => {
      this.release(init.writer)
      this.#named.delete(writer)
      if (this.#named.size === 0) this.#refreshing.stop()
    }
    const writer: StreamWriter = this.#writer(session, stream, init, { ...listener, done })
    this.#named.add(writer)
    this.#refreshing.start()
    return writer
  }

  /** @param listener `done` is called when the stream is written to its end, or lost. */
  #writer(
    session: string,
    stream: string,
    init: StreamInit,
    { opened, lost, done }: Pick<WriterListener, 'opened' | 'lost'> & { done?: () => void },
  ): StreamWriter {
    return new StreamWriter(this.log, session, stream, init, {
      ...(opened && { opened }),
      appended: (first, events, ended) => {
        if (ended) done?.()
        const connection = this.connections.get(session, stream)
        if (connection) connection.receive(first, events, ended)
        else if (this.cluster.node.shared) tellAppended(this.cluster.news, session, { stream, first, events, ended })
      },
      lost: (error) => {
        done?.()
        this.connections.get(session, stream)?.close()
        lost(error)
      },
    })
  }

  /** Tells the client where the stream begins, now that it is in the log, so that it can resume before the first event. */
  #prime({ id, tag, priming }: StreamSession, stream: string): void {
    if (!priming) return
    const event = primingEvent(formatEventId(tag, stream, 0), this.options.retryInterval)
    this.connections.get(id, stream)?.write(event)
  }

  /** Not before there is something to be asked about, so that a transport that never gets a session can be collected. */
  #listen(): void {
    if (this.#unlisten) return
    const { questions, node } = this.cluster
    const unlisten = questions.listen(SUBJECT, async (_session, question) =>
      this.#names.has((question as WritingQuestion).writing) ? true : undefined,
    )
    // A stream that another node has finished meanwhile turns out to be lost.
    const untell = node.whenDistrusted(() => this.#refresh())
    this.#unlisten = () => {
      unlisten()
      untell()
    }
  }

  #refresh(): void {
    for (const writer of this.#named) writer.refresh().catch(() => {})
  }
}

/** Positions begin at the clock, so that a standalone stream that expired and begins again gives out none twice. */
export function standaloneInit(): StreamInit {
  return { head: '{}', base: Date.now() }
}
