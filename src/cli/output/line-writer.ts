/** Lines to a pipe or a terminal, at the speed of whoever reads them. */
import { once } from 'node:events'
import type { Writable } from 'node:stream'

export class LineWriter {
  /** Whoever read has left, as `head` does: that is no failure, and there is nothing more to do. */
  closed = false
  #full = false

  constructor(private readonly stream: Writable) {
    stream.on('error', () => {
      this.closed = true
    })
  }

  line(text: string): void {
    if (!this.closed && !this.stream.write(`${text}\n`)) this.#full = true
  }

  /** Resolves when more can be written. */
  async room(): Promise<void> {
    if (!this.#full) return
    this.#full = false
    if (!this.closed && this.stream.writableNeedDrain) await once(this.stream, 'drain').catch(() => {})
  }

  /** Resolves when all is on its way, so that the process may end. */
  async end(): Promise<void> {
    if (!this.closed) await new Promise<void>((resolve) => this.stream.write('', () => resolve()))
  }
}
