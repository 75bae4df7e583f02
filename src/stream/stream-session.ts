/** A session as its streams know it. */
import { sessionTag } from './event-id.js'

export class StreamSession {
  #tag: string | undefined

  constructor(
    readonly id: string,
    /** Whether the client can read an event without data. */
    readonly priming: boolean,
  ) {}

  /** What the session's event ids begin with. */
  get tag(): string {
    this.#tag ??= sessionTag(this.id)
    return this.#tag
  }
}
