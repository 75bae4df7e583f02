/** Streams that are followed here and written elsewhere: when nobody writes one any more, one node goes on with it. */
import type { EventLog, StreamInfo } from '../backend/backend.js'
import { type ClusterNode, nodeOf, type Standing } from '../cluster/node.js'
import { monotonic } from '../util/clock.js'
import { asError } from '../util/error.js'
import { Interval } from '../util/interval.js'
import type { Caller } from '../wire/message.js'
import type { Connection } from './connection.js'
import { giveUp, readUnfinished, type StreamHead, type UnfinishedStream } from './unfinished.js'
import type { Writers } from './writers.js'

/** How often it is looked whether the nodes that write the watched streams are alive, in ms. */
const WATCH_INTERVAL = 500
/** How often a living node is asked whether it still writes a stream, in ms. */
const ASK_INTERVAL = 10_000

/** A stream that is followed here. */
interface Watch {
  session: string
  stream: string
  head: string
  /** Who writes it, as far as is known. */
  writer: string
  /** Whose request follows it; it is finished on their behalf. */
  caller: Caller
}

interface Watched extends Watch {
  /** This node has claimed it, or may have: the others take it for ours, so it is watched even if nobody follows it here. */
  claimed: boolean
  /** When its writer's node is next asked about it, by the monotonic clock. */
  askAt: number
  /** It is being looked at. */
  busy: boolean
}

/** Finishes what is left of a stream. */
export type Finish = (unfinished: UnfinishedStream, caller: Caller) => Promise<void>

export class Takeover {
  /** Tells a client that the log does not have its stream any more, and nobody writes it. Set once. */
  ongone: (connection: Connection, head: string) => void = (connection) => connection.close()
  /** Set once, by whoever has the sessions. */
  finish: Finish = async (unfinished) => giveUp(unfinished)
  readonly #watched = new Map<Connection, Watched>()
  readonly #watching = new Interval(WATCH_INTERVAL, () => void this.look())

  constructor(
    private readonly node: ClusterNode,
    private readonly log: EventLog,
    private readonly writers: Writers,
    private readonly onerror: (error: Error) => void,
  ) {}

  async watch(connection: Connection, watch: Watch): Promise<void> {
    if (connection.closed) return
    const watched = { ...watch, claimed: false, askAt: nextAsk(), busy: false }
    this.#watched.set(connection, watched)
    this.#watching.start()
    // One that its node has left need not wait for the next look.
    await this.#look([[connection, watched]])
  }

  /** The connection has ended. */
  forget(connection: Connection): void {
    if (!this.#watched.get(connection)?.claimed) this.#remove(connection)
  }

  /** The log does not have the stream of a connection: whether it is still written is soon looked into; false: it is not watched. */
  suspect(connection: Connection): boolean {
    const watched = this.#watched.get(connection)
    if (watched) watched.askAt = 0
    return watched !== undefined
  }

  /** Takes over what nobody writes any more. */
  look(): Promise<void> {
    return this.#look([...this.#watched])
  }

  close(): void {
    this.#watching.stop()
  }

  async #look(watches: [Connection, Watched][]): Promise<void> {
    const idle = watches.filter(([, { busy }]) => !busy)
    if (idle.length === 0) return
    for (const [, watched] of idle) watched.busy = true
    try {
      const standing = await this.node.standing(idle.map(([, { writer }]) => nodeOf(writer)))
      await Promise.all(idle.map(([connection, watched]) => this.#lookAt(connection, watched, standing)))
    } catch {
      // The backend is away; the next look finds out.
    } finally {
      for (const [, watched] of idle) watched.busy = false
    }
  }

  async #lookAt(connection: Connection, watched: Watched, standing: Map<string, Standing>): Promise<void> {
    try {
      if (await this.#isWritten(watched, standing.get(nodeOf(watched.writer)))) return
      if (this.#watched.get(connection) === watched) await this.#takeOver(connection, watched)
    } catch {
      // As above; the other streams are looked at all the same.
    }
  }

  async #isWritten(watched: Watched, standing: Standing | undefined): Promise<boolean> {
    const { session, stream, writer } = watched
    const node = nodeOf(writer)
    if (standing === 'dead') return false
    if (standing === 'absent') {
      // Perhaps it is dead, perhaps the store was away; or it has left the stream to others, which the log knows.
      watched.writer = (await this.log.read(session, stream, 0, 1))?.writer ?? writer
      return nodeOf(watched.writer) !== ''
    }
    if (node !== this.node.id) {
      if (monotonic() < watched.askAt) return true
      watched.askAt = nextAsk()
    }
    return (await this.writers.isWriting(session, writer, node)) ?? true
  }

  async #takeOver(connection: Connection, watched: Watched): Promise<void> {
    const { session, stream, head, caller, writer: before } = watched
    const name = this.writers.reserve(session)
    // If the answer is lost, the next look sees that a name of this node is not being written, and finds out whose it is.
    watched.writer = name
    watched.claimed = true
    try {
      if (!(await this.log.claim(session, stream, name, before))) {
        this.writers.release(name)
        return await this.#lookAgain(connection, watched)
      }
      const { position, ...left } = await readUnfinished(this.log, session, stream, JSON.parse(head) as StreamHead)
      // It is watched on: a log that forgets the stream now is no reason to end the connection.
      watched.claimed = false
      if (connection.closed) this.#remove(connection)
      const writer = this.writers.goOn(session, stream, head, name, position)
      const unfinished = { session, stream, writer, ...left }
      this.finish(unfinished, caller).catch((error) => {
        this.onerror(asError(error))
        giveUp(unfinished)
      })
    } catch (error) {
      // Whether it was claimed or not, nobody here writes it: the next look finds out.
      this.writers.release(name)
      throw error
    }
  }

  /** The stream is another node's, or has ended, or is gone. */
  async #lookAgain(connection: Connection, watched: Watched): Promise<void> {
    const info: StreamInfo | undefined = await this.log.read(watched.session, watched.stream, 0, 1)
    watched.claimed = false
    if (!info) {
      this.forget(connection)
      if (!connection.closed) this.ongone(connection, watched.head)
      return
    }
    if (info.writer === undefined || info.ended || connection.closed) this.forget(connection)
    else watched.writer = info.writer
    connection.catchUp()
  }

  #remove(connection: Connection): void {
    this.#watched.delete(connection)
    if (this.#watched.size === 0) this.#watching.stop()
  }
}

/** Not at the same time for all. */
function nextAsk(): number {
  return monotonic() + ASK_INTERVAL * (0.75 + Math.random() / 2)
}
