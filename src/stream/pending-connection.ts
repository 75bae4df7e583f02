/** A connection to a stream that is still being made. A newer one may come for the same stream before this one is there. */
export class PendingConnection {
  /** A newer connection takes its place: it must not begin to follow. */
  superseded = false
  /** Its name in the log, by which connections of a node are in order; undefined until it is about to be recorded there. */
  name: string | undefined
  /** The position after which it would have begun; undefined: nothing came of it. */
  readonly begins: Promise<number | undefined>
  #settle!: (position: number | undefined) => void

  constructor(readonly stream: string) {
    this.begins = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  /** To be called when it is known where it begins, or that nothing comes of it. */
  settle(position?: number): void {
    this.#settle(position)
  }
}
