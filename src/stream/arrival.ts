/** A connection to a stream that is still being made. Another one may come for the same stream before it is there. */
export class Arrival {
  /** A newer connection takes its place: it must not begin to follow. */
  superseded = false
  /** Its number among the connections of this node, in the order in which the log learns of them; none before it has. */
  turn = Number.POSITIVE_INFINITY
  /** Where it would have begun; undefined if nothing came of it. */
  readonly begins: Promise<number | undefined>
  #settle!: (position: number | undefined) => void

  constructor(readonly stream: string) {
    this.begins = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  /** Once where it begins is known, or that nothing comes of it. */
  settle(position?: number): void {
    this.#settle(position)
  }
}
