/** What the streams of one session weigh together, and what of them goes first when that is too much. */
import { STREAM_WEIGHT } from '../backend.js'

/** What of a stream the budget looks at and changes. */
export interface Budgeted {
  head: string
  /** From position `first` on. */
  events: string[]
  /** UTF-16 code units of the events. */
  size: number
  first: number
  last: number
  ended: boolean
}

export class Budget<S extends Budgeted> {
  /** What each stream was last known to weigh. */
  readonly #weights = new Map<S, number>()
  #total = 0
  // In the order in which they go: ended ones with events, ended ones without, and others with more than their newest event.
  readonly #ended = new Set<S>()
  readonly #emptied = new Set<S>()
  readonly #unfinished = new Set<S>()

  constructor(
    private readonly max: number,
    /** Removes a stream, which calls {@link forget}. */
    private readonly remove: (stream: S) => void,
  ) {}

  /** A stream was appended to: what is too much goes. */
  appended(stream: S): void {
    this.#unlist(stream)
    this.#weigh(stream)
    for (const other of this.#over(this.#ended)) {
      dropTo(other, 0)
      this.#weigh(other)
      this.#ended.delete(other)
      this.#emptied.add(other)
    }
    for (const other of this.#over(this.#emptied)) this.remove(other)
    for (const other of this.#over(this.#unfinished)) {
      this.#trim(other)
      if (other.events.length <= 1) this.#unfinished.delete(other)
    }
    this.#trim(stream)
    if (stream.ended) (stream.events.length > 0 ? this.#ended : this.#emptied).add(stream)
    else if (stream.events.length > 1) this.#unfinished.add(stream)
  }

  /** A stream was removed, or has expired. */
  forget(stream: S): void {
    this.#unlist(stream)
    this.#total -= this.#weights.get(stream) ?? 0
    this.#weights.delete(stream)
  }

  /** The streams in their order, as long as there is too much. */
  *#over(streams: Set<S>): Iterable<S> {
    for (const stream of streams) {
      if (this.#total <= this.max) return
      yield stream
    }
  }

  #trim(stream: S): void {
    let kept = stream.events.length
    let over = this.#total - this.max
    for (const event of stream.events) {
      if (over <= 0 || kept <= 1) break
      over -= event.length
      kept--
    }
    dropTo(stream, kept)
    this.#weigh(stream)
  }

  #weigh(stream: S): void {
    const weight = STREAM_WEIGHT + stream.head.length + stream.size
    this.#total += weight - (this.#weights.get(stream) ?? 0)
    this.#weights.set(stream, weight)
  }

  #unlist(stream: S): void {
    this.#ended.delete(stream)
    this.#emptied.delete(stream)
    this.#unfinished.delete(stream)
  }
}

/** Drops the oldest events of a stream, until so many are left. */
export function dropTo(stream: Budgeted, kept: number): void {
  const dropped = stream.events.splice(0, stream.events.length - kept)
  for (const event of dropped) stream.size -= event.length
  stream.first += dropped.length
}
