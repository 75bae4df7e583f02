/** Each event of a stream comes once, in order, with none left out. */
import { parseEventId } from '../harness/event-id.js'
import type { SseBlock } from '../harness/sse.js'

export class Positions {
  /** The last one seen of each stream. */
  readonly #seen = new Map<string, number>()

  constructor(private readonly violate: (what: string) => void) {}

  /**
   * A block came.
   *
   * @param fresh On a connection that named no event, which may begin later than the last one ended.
   * @param again And earlier: what was sent a moment before a node died is sent again.
   */
  see({ id, message }: SseBlock, fresh: boolean, again = false): void {
    if (id === undefined) return
    const { stream, position } = parseEventId(id)
    const last = this.#seen.get(stream)
    const step = message === undefined ? 0 : 1
    if (last === undefined || (fresh && (again || position >= last + step))) {
      if (stream !== 'standalone' && position !== step) this.violate(`${stream} begins at ${position}`)
    } else if (position !== last + step) this.violate(`${stream}: ${position} after ${last}`)
    this.#seen.set(stream, position)
  }
}
