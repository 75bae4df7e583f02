/** Work that is repeated while there is a reason for it. It never keeps the process alive. */
export class Interval {
  #timer: NodeJS.Timeout | undefined

  /** @param ms Between two runs; 0: it never runs. */
  constructor(
    private readonly ms: number,
    private readonly work: () => void,
  ) {}

  /** Does nothing if it runs already. */
  start(): void {
    if (this.#timer || this.ms <= 0) return
    this.#timer = setInterval(this.work, this.ms)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
