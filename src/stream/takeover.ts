/** Streams that are followed here and written elsewhere: when nobody writes one any more, one node goes on with it. */
import type { EventLog } from '../backend/backend.js'
import { type ClusterNode, nodeOf } from '../cluster/node.js'
import { asError } from '../util/error.js'
import { Interval } from '../util/interval.js'
import type { Caller } from '../wire/message.js'
import type { Connection } from './connection.js'
import { giveUp, readUnfinished, type StreamHead, type UnfinishedStream } from './unfinished.js'
import type { Writers } from './writers.js'

/** How often it is looked whether the writers of the watched streams still write, in ms. */
const WATCH_INTERVAL = 500

/** A stream that is followed here. */
interface Watch {
  session: string
  stream: string
  head: string
  /** Who writes it, as far as is known. */
  writer: string
  /** Whose request follows it; it is finished on their behalf. */
  caller: Caller
  /** This node has claimed it, or may have: the others take it for ours, so it is watched even if nobody follows it here. */
  claimed?: boolean
}

/** Finishes what is left of a stream. */
export type Finish = (unfinished: UnfinishedStream, caller: Caller) => Promise<void>

export class Takeover {
  /** Set once, by whoever has the sessions. */
  finish: Finish = async (unfinished) => giveUp(unfinished)
  readonly #watched = new Map<Connection, Watch>()
  readonly #watching = new Interval(WATCH_INTERVAL, () => void this.look())

  constructor(
    private readonly node: ClusterNode,
    private readonly log: EventLog,
    private readonly writers: Writers,
    private readonly onerror: (error: Error) => void,
  ) {}

  async watch(connection: Connection, watch: Watch): Promise<void> {
    this.#watched.set(connection, watch)
    this.#watching.start()
    await this.look()
  }

  /** The connection has ended. */
  forget(connection: Connection): void {
    if (!this.#watched.get(connection)?.claimed) this.#remove(connection)
  }

  /** Takes over what nobody writes any more. */
  async look(): Promise<void> {
    if (this.#watched.size === 0) return
    try {
      const others = await this.node.others()
      for (const [connection, watch] of [...this.#watched]) {
        const node = nodeOf(watch.writer)
        const written =
          node === this.node.id ? await this.writers.isWritingHere(watch.session, watch.writer) : others.includes(node)
        if (!written) await this.#takeOver(connection, watch)
      }
    } catch {
      // The backend is away; the next look finds out.
    }
  }

  close(): void {
    this.#watching.stop()
  }

  async #takeOver(connection: Connection, watch: Watch): Promise<void> {
    const { session, stream, head, caller, writer: before } = watch
    const name = this.writers.reserve()
    // If the answer is lost, the next look sees that a name of this node is not being written, and finds out whose it is.
    watch.writer = name
    watch.claimed = true
    try {
      if (!(await this.log.claim(session, stream, name, before))) {
        this.writers.release(name)
        return await this.#lookAgain(connection, watch)
      }
      const writer = this.writers.goOn(session, stream, head, name)
      const left = await readUnfinished(this.log, session, stream, JSON.parse(head) as StreamHead)
      this.#remove(connection)
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

  /** Another node was first, or the stream has ended. */
  async #lookAgain(connection: Connection, watch: Watch): Promise<void> {
    const info = await this.log.read(watch.session, watch.stream, 0, 1)
    watch.claimed = false
    if (info?.writer === undefined || info.ended || connection.closed) this.forget(connection)
    else watch.writer = info.writer
    connection.catchUp()
  }

  #remove(connection: Connection): void {
    this.#watched.delete(connection)
    if (this.#watched.size === 0) this.#watching.stop()
  }
}
