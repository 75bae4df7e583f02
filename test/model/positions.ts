/** Each event of a stream comes once, in order, with none left out. */
import { parseEventId } from '../harness/event-id.js'
import type { SseBlock } from '../harness/sse.js'
import type { Heard } from './trouble.js'

const STANDALONE = 'standalone'

export class Positions {
  /** The last one seen of each stream. */
  readonly #seen = new Map<string, number>()
  /** What came on the standalone stream, by position. */
  readonly #heard = new Map<number, Heard>()

  constructor(private readonly violate: (what: string) => void) {}

  /**
   * A block came.
   *
   * @param heard Now, and from whom.
   * @param fresh On a connection that named no event, which may begin later than the last one ended, and earlier with what
   *   may be sent again.
   */
  see({ id, message }: SseBlock, heard: Heard, fresh?: { mayComeAgain(heard: Heard): boolean }): void {
    if (id === undefined) return
    const { stream, position } = parseEventId(id)
    const last = this.#seen.get(stream)
    const step = message === undefined ? 0 : 1
    if (last === undefined) {
      if (stream !== STANDALONE && position !== step) this.violate(`${stream} begins at ${position}`)
    } else if (fresh) {
      for (const [before, when] of this.#heard) {
        if (before > position - step && !fresh.mayComeAgain(when))
          this.violate(`${before} comes again from ${position} on`)
      }
    } else if (position !== last + step) this.violate(`${stream}: ${position} after ${last}`)
    this.#seen.set(stream, position)
    if (stream === STANDALONE && message !== undefined) this.#heard.set(position, heard)
  }
}
