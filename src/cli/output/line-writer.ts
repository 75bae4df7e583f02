/** Writes lines to a pipe or a terminal, as fast as they are read there. */
import { once } from 'node:events'
import type { Writable } from 'node:stream'

export class LineWriter {
  /** Whether the reader has closed the pipe, as `head` does. No error: there is just nothing more to write. */
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

  /** Resolves when more can be written without being kept in memory. */
  async room(): Promise<void> {
    if (!this.#full) return
    this.#full = false
    if (!this.closed && this.stream.writableNeedDrain) await once(this.stream, 'drain').catch(() => {})
  }

  /** Resolves when everything was handed to the system: the process may end. */
  async end(): Promise<void> {
    if (!this.closed) await new Promise<void>((resolve) => this.stream.write('', () => resolve()))
  }
}
