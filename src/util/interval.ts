/** A timer that repeats its work from `start` to `stop`. It never keeps the process alive. */
export class Interval {
  #timer: NodeJS.Timeout | undefined

  /** @param ms Time between two runs; 0: the work is never done. */
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
