/** A table for the terminal. It is printed while its rows come: a backend may have any number of them. */

export interface Column {
  title: string
  /** Least width, in characters. */
  width?: number
  /** Greatest width, in characters; a longer cell is cut. */
  max?: number
  /** Whether cells are aligned to the right. */
  right?: boolean
}

/** How many rows are looked at for the widths of the columns before printing begins; a later row may still widen them. */
const SAMPLE = 100
const GAP = '  '

export class Table {
  #widths: number[]
  /** The first rows, until the widths are known; undefined from then on. */
  #waiting: string[][] | undefined = []

  constructor(
    private readonly columns: readonly Column[],
    private readonly print: (line: string) => void,
  ) {
    this.#widths = columns.map(({ width = 0 }) => width)
    this.row(columns.map(({ title }) => title))
  }

  row(cells: readonly string[]): void {
    const row = cells.map((cell, i) => short(cell, this.columns[i]?.max))
    for (const [i, cell] of row.entries()) this.#widths[i] = Math.max(this.#widths[i] ?? 0, cell.length)
    if (!this.#waiting) this.#print(row)
    else if (this.#waiting.push(row) > SAMPLE) this.#flush()
  }

  /** To be called after the last row. */
  end(): void {
    this.#flush()
  }

  #flush(): void {
    for (const row of this.#waiting ?? []) this.#print(row)
    this.#waiting = undefined
  }

  #print(row: readonly string[]): void {
    const padded = row.map((cell, i) => {
      const width = this.#widths[i] ?? 0
      return this.columns[i]?.right ? cell.padStart(width) : cell.padEnd(width)
    })
    this.print(padded.join(GAP).trimEnd())
  }
}

/** Text of unknown origin without control and formatting characters, which could move the cursor or reverse what is written. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, '\uFFFD')
}

function short(cell: string, max = Number.POSITIVE_INFINITY): string {
  const text = printable(cell)
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`
}
