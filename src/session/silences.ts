/** Requests of which nothing is heard any more: a server may have dropped one in silence, and its client waits. */
import type { RequestId } from '../wire/jsonrpc.js'
import type { Deadline, Deadlines } from './deadlines.js'

export class Silences {
  readonly #deadlines = new Map<RequestId, Deadline>()

  constructor(
    /** How long a request may be silent; undefined: for ever. */
    private readonly allowed: Deadlines | undefined,
    /** A request was silent for that long. */
    private readonly onsilent: (id: RequestId) => void,
  ) {}

  /** A request has begun, or something was said on its behalf. */
  heard(id: RequestId): void {
    if (!this.allowed) return
    this.#deadlines.get(id)?.cancel()
    this.#deadlines.set(id, this.allowed.add({ expire: () => this.onsilent(id) }))
  }

  /** A request has ended here. */
  forget(id: RequestId): void {
    this.#deadlines.get(id)?.cancel()
    this.#deadlines.delete(id)
  }
}
