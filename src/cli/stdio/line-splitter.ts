/** Lines out of the chunks that a pipe delivers. */

const NEWLINE = 0x0a

/**
 * Cuts bytes into lines and only then decodes them, so that a character split across chunks stays whole. A line is put
 * together once, however many chunks it came in.
 */
export class LineSplitter {
  #parts: Buffer[] = []
  #size = 0

  /** @param limit Bytes after which an unfinished line is handed to `onoverlong` in place of `online`. */
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

  /** Hands out what came after the last newline. */
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
