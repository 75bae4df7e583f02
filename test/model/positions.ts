/** Each event of a stream comes once, in order, with none left out. */
import { parseEventId } from '../harness/event-id.js'
import type { SseBlock } from '../harness/sse.js'

export class Positions {
  /** The last one seen of each stream. */
  readonly #seen = new Map<string, number>()

  constructor(private readonly violate: (what: string) => void) {}

  /** A block came; `fresh`: on a connection that named no event, which may begin later than the last one ended. */
  see({ id, message }: SseBlock, fresh: boolean): void {
    if (id === undefined) return
    const { stream, position } = parseEventId(id)
    const last = this.#seen.get(stream)
    const step = message === undefined ? 0 : 1
    if (last === undefined || (fresh && position >= last + step)) {
      if (stream !== 'standalone' && position !== step) this.violate(`${stream} begins at ${position}`)
    } else if (position !== last + step) this.violate(`${stream}: ${position} after ${last}`)
    this.#seen.set(stream, position)
  }
}
