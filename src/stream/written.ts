/** Which events a connection has written last: so it finds out that the log holds others in their places. */
import type { StreamSlice } from '../backend/backend.js'
import { readMarked } from './mark.js'

/** How many events are remembered of a stream. */
export const REMEMBERED = 256

/** Stands for "no event": where the connection began, the log had none. */
const NONE = -1

export class Written {
  /** A ring that grows with what is written; the first entry is that of the position where it began. */
  readonly #marks: number[] = []
  #began = 0
  #first = 0
  #last = -1

  /** The oldest position that is remembered. */
  get first(): number {
    return this.#first
  }

  get isEmpty(): boolean {
    return this.#last < this.#first
  }

  /** An event was written; one that does not follow the last one begins anew. */
  add(position: number, mark: number): void {
    if (this.isEmpty || position !== this.#last + 1) {
      this.#marks.length = 0
      this.#began = position
      this.#first = position
    }
    this.#marks[(position - this.#began) % REMEMBERED] = mark
    this.#last = position
    this.#first = Math.max(this.#first, position + 1 - REMEMBERED)
  }

  /** The connection goes on after a position, where the log has this event, or none. */
  begin(position: number, data: string | undefined): void {
    this.#last = this.#first - 1
    this.add(position, data === undefined ? NONE : readMarked(data).mark)
  }

  /** Whether an event is the one that was written at its position. */
  has(position: number, data: string): boolean {
    return position >= this.#first && position <= this.#last && this.#markAt(position) === readMarked(data).mark
  }

  /** Whether all of these events that are not beyond the last position were written. */
  hasAll(first: number, events: readonly string[]): boolean {
    return events.every((data, index) => first + index > this.#last || this.has(first + index, data))
  }

  /** Whether the log, as far as it was read, holds what was written. */
  isIn({ events, last }: StreamSlice): boolean {
    return last >= this.#last && events.every(({ position, data }) => position > this.#last || this.has(position, data))
  }

  /**
   * Forgets what the log holds no more, given all that it has from the oldest remembered position on. The last position that is
   * still the same there; undefined: it is older than what is remembered.
   */
  goBack({ events, first, last }: StreamSlice): number | undefined {
    const beganEmpty = this.#markAt(this.#first) === NONE && first > this.#first && last >= this.#first
    let same = beganEmpty ? this.#first : undefined
    for (const { position, data } of events) {
      if (!this.has(position, data)) break
      same = position
    }
    this.#last = same ?? this.#first - 1
    return same
  }

  #markAt(position: number): number | undefined {
    return this.#marks[(position - this.#began) % REMEMBERED]
  }
}
