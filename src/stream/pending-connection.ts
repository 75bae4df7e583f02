/** Connections to streams that are still being made, and how many there may be with those that are open. */
import type { Limits } from '../wire/limits.js'
import { Refusal } from '../wire/refusal.js'
import type { OpenConnections } from './open-connections.js'

export class PendingConnection {
  /** A newer connection takes its place: it must not begin to follow. */
  superseded = false
  /** Its name in the log, by which connections of a node are in order; undefined until it is about to be recorded there. */
  name: string | undefined
  /** The position after which it would have begun; undefined: nothing came of it. */
  readonly begins: Promise<number | undefined>
  #settle!: (position: number | undefined) => void

  constructor(readonly stream: string) {
    this.begins = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  /** To be called when it is known where it begins, or that nothing comes of it. */
  settle(position?: number): void {
    this.#settle(position)
  }
}

/** Those of a node. A newer one may come for the same stream before the one before it is there. */
export class PendingConnections {
  readonly #sessions = new Map<string, Set<PendingConnection>>()
  #size = 0

  constructor(
    private readonly open: OpenConnections,
    private readonly limits: Pick<Limits, 'streams' | 'allStreams'>,
  ) {}

  /** The number of connections of a session, open or being made. */
  countAll(session: string): number {
    return this.open.count(session) + (this.#sessions.get(session)?.size ?? 0)
  }

  /** The limit that one more connection of a session would be over; undefined: there is room for it. */
  reached(session: string): 'tooManyStreams' | 'full' | undefined {
    if (this.countAll(session) >= this.limits.streams) return 'tooManyStreams'
    return this.open.size + this.#size >= this.limits.allStreams ? 'full' : undefined
  }

  /** Those to one stream. */
  of(session: string, stream: string): PendingConnection[] {
    return [...(this.#sessions.get(session) ?? [])].filter((pending) => pending.stream === stream)
  }

  /** @throws Refusal if there are too many. One that takes the place of one that is open is no more than there were. */
  add(session: string, pending: PendingConnection): void {
    const { stream } = pending
    const replaces = this.open.get(session, stream) !== undefined && this.of(session, stream).length === 0
    const reached = replaces ? undefined : this.reached(session)
    if (reached) throw new Refusal(reached)
    const all = this.#sessions.get(session) ?? new Set()
    this.#sessions.set(session, all.add(pending))
    this.#size++
  }

  remove(session: string, pending: PendingConnection): void {
    const all = this.#sessions.get(session)
    if (!all?.delete(pending)) return
    this.#size--
    if (all.size === 0) this.#sessions.delete(session)
  }
}
