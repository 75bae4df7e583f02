/**
 * Looks into the log for what the connections of this node have missed, in case the news of it was lost. Streams that nothing
 * happens on are looked at less and less often, and many with one question.
 */
import { type EventLog, MAX_STREAMS, type StreamStanding } from '../backend/backend.js'
import { Interval } from '../util/interval.js'
import type { Connection } from './connection.js'
import { STANDALONE } from './event-id.js'

/** In ms. At each tick the log is asked about all streams that are due, and at no other time. */
const TICK = 1000
/** How often one stream is looked at, in ticks: at first, and if nothing happens on it for long. */
const SOONEST = 3
const LATEST = 24

interface Poll {
  connection: Connection
  /** Ticks from the last look to the next, at most. */
  wait: number
  /** The tick of the next look. */
  due: number
  /** Something was written to the connection since the last look. */
  active: boolean
  /** This node wrote the stream when it was last due. */
  writtenHere: boolean
}

export class Polling {
  readonly #polls = new Map<Connection, Poll>()
  /** By the tick at which they are due. */
  readonly #slots: readonly Set<Poll>[] = Array.from({ length: LATEST + 1 }, () => new Set())
  readonly #ticking = new Interval(TICK, () => this.#tick())
  #now = 0

  constructor(
    private readonly log: EventLog,
    /** Whether this node, and so no other one, writes a stream. */
    private readonly isWrittenHere: (stream: string) => boolean,
  ) {}

  add(connection: Connection): void {
    const poll = { connection, wait: SOONEST, due: 0, active: false, writtenHere: false }
    this.#polls.set(connection, poll)
    // At random, so that those which were opened together have their turns one after the other.
    this.#schedule(poll, 1 + Math.floor(Math.random() * SOONEST))
    this.#ticking.start()
  }

  remove(connection: Connection): void {
    const poll = this.#polls.get(connection)
    if (!poll) return
    this.#polls.delete(connection)
    this.#slot(poll).delete(poll)
    if (this.#polls.size === 0) this.#ticking.stop()
  }

  /** Something was written to the connection: more may come. */
  wrote(connection: Connection): void {
    const poll = this.#polls.get(connection)
    if (!poll) return
    poll.active = true
    if (poll.due <= this.#now + SOONEST) return
    this.#slot(poll).delete(poll)
    this.#schedule(poll, SOONEST)
  }

  #slot({ due }: Poll): Set<Poll> {
    return this.#slots[due % this.#slots.length] as Set<Poll>
  }

  #schedule(poll: Poll, wait: number): void {
    poll.due = this.#now + wait
    this.#slot(poll).add(poll)
  }

  /** A while until the next look: at most `wait`, and not the same for all. */
  #scheduleWithin(poll: Poll, wait: number): void {
    poll.wait = wait
    poll.active = false
    this.#schedule(poll, Math.ceil(wait * (0.75 + Math.random() / 4)))
  }

  #tick(): void {
    this.#now++
    const slot = this.#slots[this.#now % this.#slots.length] as Set<Poll>
    const all = [...slot]
    slot.clear()
    const due = all.filter((poll) => {
      if (!this.#isFedHere(poll)) return true
      this.#scheduleWithin(poll, SOONEST)
      return false
    })
    for (let start = 0; start < due.length; start += MAX_STREAMS) void this.#look(due.slice(start, start + MAX_STREAMS))
  }

  /** Nobody but this node writes the stream, and what others wrote before has been looked for. */
  #isFedHere(poll: Poll): boolean {
    const before = poll.writtenHere
    poll.writtenHere = this.isWrittenHere(poll.connection.stream)
    return before && poll.writtenHere
  }

  async #look(polls: readonly Poll[]): Promise<void> {
    const positions = polls.map(({ connection }) => connection.position)
    let standings: readonly (StreamStanding | undefined)[] | undefined
    try {
      standings = await this.log.look(polls.map(({ connection: { session, stream } }) => ({ session, stream })))
    } catch {
      // The backend has told of it. What is appended when it is back may come without news: it is soon looked for.
    }
    for (const [index, poll] of polls.entries()) {
      const { connection } = poll
      if (this.#polls.get(connection) !== poll) continue
      const misses = standings !== undefined && connection.misses(standings[index], positions[index] as number)
      const isWaitedFor = connection.stream !== STANDALONE
      const isQuiet = standings !== undefined && !misses && !poll.active && !isWaitedFor
      this.#scheduleWithin(poll, isQuiet ? Math.min(poll.wait * 2, LATEST) : SOONEST)
      if (misses) connection.catchUp()
    }
  }
}
