/** Streams that are followed here and written elsewhere: whoever notices that their node is gone takes them over, once. */
import { setTimeout as delay } from 'node:timers/promises'
import type { EventLog } from '../backend/backend.js'
import { Unavailable } from '../backend/bounded.js'
import { type ClusterNode, nodeOf } from '../cluster/node.js'
import { monotonic } from '../util/clock.js'
import { Refusal } from '../wire/refusal.js'
import type { Follower } from './follower.js'
import { giveUp, type Orphan, type StreamHead, unfinished } from './orphan.js'
import type { StreamWriter } from './writer.js'

/** How long it is tried to finish a stream while the backend is away, and how often, in ms. */
const PATIENCE = 30_000
const RETRY_INTERVAL = 250

/** A stream that is followed here. */
export interface Watch {
  session: string
  stream: string
  head: string
  /** Who writes it, as far as is known. */
  writer: string
  /** This node has claimed it, or may have: to the others it is ours, so it is looked after even if nobody follows it here. */
  claimed?: boolean
  /** Does what is left to be done, if that falls to this node. */
  finish: (orphan: Orphan) => Promise<void>
}

export class Orphans {
  #watched = new Map<Follower, Watch>()

  constructor(
    private readonly node: ClusterNode,
    private readonly log: EventLog,
    /** Goes on with a stream under a new name. */
    private readonly write: (session: string, stream: string, head: string, name: string) => StreamWriter,
    private readonly onerror: (error: Error) => void,
  ) {}

  async watch(follower: Follower, watch: Watch): Promise<void> {
    this.#watched.set(follower, watch)
    await this.look()
  }

  forget(follower: Follower): void {
    if (!this.#watched.get(follower)?.claimed) this.#watched.delete(follower)
  }

  /** Takes over what nobody writes any more. */
  async look(): Promise<void> {
    if (this.#watched.size === 0) return
    try {
      const others = await this.node.others()
      for (const [follower, watch] of [...this.#watched]) {
        const node = nodeOf(watch.writer)
        const written = node === this.node.id ? this.node.writing.has(watch.writer) : others.includes(node)
        if (!written) await this.#takeOver(follower, watch)
      }
    } catch {
      // the backend is away; there is a next time
    }
  }

  /** A backend that is away for a moment is no reason to leave it undone. */
  async #finish(orphan: Orphan, finish: Watch['finish']): Promise<void> {
    const deadline = monotonic() + PATIENCE
    for (;;) {
      try {
        return await finish(orphan)
      } catch (error) {
        const passing = error instanceof Unavailable || (error instanceof Refusal && error.status === 503)
        if (!passing || monotonic() > deadline) throw error
        await delay(RETRY_INTERVAL)
      }
    }
  }

  async #takeOver(follower: Follower, watch: Watch): Promise<void> {
    const { session, stream, head, finish, writer: before } = watch
    const name = this.node.newWriter()
    // If the answer is lost, the next look sees that a name of this node is not being written, and finds out whose it is.
    watch.writer = name
    watch.claimed = true
    try {
      if (!(await this.log.claim(session, stream, name, before))) {
        this.node.writing.delete(name)
        const info = await this.log.read(session, stream, 0, 1)
        watch.claimed = false
        if (info?.writer === undefined || info.ended || follower.closed) this.forget(follower)
        else watch.writer = info.writer
        return follower.catchUp()
      }
      const writer = this.write(session, stream, head, name)
      const left = await unfinished(this.log, session, stream, JSON.parse(head) as StreamHead)
      this.#watched.delete(follower)
      const orphan = { stream, writer, ...left }
      this.#finish(orphan, finish).catch((error) => {
        this.onerror(error)
        giveUp(orphan)
      })
    } catch (error) {
      // whether it was claimed or not, nobody here writes it: the next look finds out
      this.node.writing.delete(name)
      throw error
    }
  }
}
