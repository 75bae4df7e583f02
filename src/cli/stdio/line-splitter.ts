/** Splits what a pipe delivers in chunks into lines. */

const NEWLINE = 0x0a

/**
 * Decodes whole lines only, so that a character that is split across chunks stays whole. Joins the chunks of a line once, when
 * it ends, so that a line of many chunks is not copied with each of them.
 */
export class LineSplitter {
  #parts: Buffer[] = []
  #size = 0

  /** @param limit Bytes. `onoverlong` gets the beginning of an unfinished line that is longer; what follows is a new line. */
  constructor(
    private readonly limit: number,
    private readonly online: (line: string) => void,
    private readonly onoverlong: (start: Buffer) => void,
  ) {}

  push(chunk: Buffer): void {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#keep(chunk.subarray(start, end))
      this.#flush()
      start = end + 1
    }
    this.#keep(chunk.subarray(start))
    if (this.#size > this.limit) this.onoverlong(this.#take())
  }

  /** The pipe has ended: what came after the last newline is a line, too. */
  end(): void {
    if (this.#size > 0) this.#flush()
  }

  #keep(part: Buffer): void {
    if (part.length === 0) return
    this.#parts.push(part)
    this.#size += part.length
  }

  #flush(): void {
    const line = this.#take().toString('utf8')
    this.online(line.endsWith('\r') ? line.slice(0, -1) : line)
  }

  #take(): Buffer {
    const bytes = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts, this.#size)
    this.#parts = []
    this.#size = 0
    return bytes
  }
}
