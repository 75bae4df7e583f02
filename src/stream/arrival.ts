/** A connection to a stream that is still being made. Another one may come for the same stream before it is there. */
export class Arrival {
  /** A newer connection takes its place: it must not begin to follow. */
  superseded = false
  /** Where it would have begun; undefined if nothing came of it. */
  readonly begins: Promise<number | undefined>
  #settle!: (position: number | undefined) => void

  /** `turn`: a number that grows with each connection of this node. */
  constructor(
    readonly stream: string,
    readonly turn: number,
  ) {
    this.begins = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  /** Once where it begins is known, or that nothing comes of it. */
  settle(position?: number): void {
    this.#settle(position)
  }
}
