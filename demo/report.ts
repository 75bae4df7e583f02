/** What a person sees of the demo. */
import type { Counts } from './traffic.js'

const colours = process.stdout.isTTY === true && !process.env.NO_COLOR
const paint = (code: number) => (text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text)
const bold = paint(1)
const dim = paint(2)
const red = paint(31)
const green = paint(32)

const print = (line = '') => process.stdout.write(`${line}\n`)
const seconds = (ms: number) => `${(ms / 1_000).toFixed(2)} s`

export interface Kill {
  /** Since the demo began, in ms. */
  at: number
  killed: number
  started: number
  before: string
  after: string
  made: number
  failed: number
  recovery: number
}

/** Left-aligned text, right-aligned numbers. */
const COLUMNS: [title: string, width: number, cell: (kill: Kill, index: number) => string][] = [
  ['kill', 4, (_, index) => String(index + 1)],
  ['at', 7, ({ at }) => seconds(at)],
  ['process', -17, ({ killed, started }) => `${killed} -> ${started}`],
  ['session', -20, ({ before, after }) => `${before.slice(0, 8)} -> ${after.slice(0, 8)}`],
  ['calls', 6, ({ made }) => String(made)],
  ['failed', 6, ({ failed }) => String(failed)],
  ['recovered in', 12, ({ recovery }) => seconds(recovery)],
]

function row(cells: string[]): string {
  const padded = cells.map((cell, i) => {
    const width = COLUMNS[i]?.[1] ?? 0
    return width < 0 ? cell.padEnd(-width) : cell.padStart(width)
  })
  return `  ${padded.join('  ')}`
}

export function opening(kills: number, facts: Record<string, string>): void {
  print(bold(`One MCP session, and a server that is killed ${kills} times while its client goes on calling`))
  print()
  for (const [name, fact] of Object.entries(facts)) print(`  ${dim(name.padEnd(10))}${fact}`)
  print()
  print(dim(row(COLUMNS.map(([title]) => title))))
}

export function killed(kill: Kill, index: number): void {
  print(row(COLUMNS.map(([, , cell]) => cell(kill, index))))
}

/** A call whose process was killed half-way. */
export interface Long {
  took: number
  killed: number
  /** The process that answered it. */
  by: number
}

export function waiting(): void {
  print()
  print(
    dim('  The long call was cut off, too. It is run again when the dead process has been silent for five seconds.'),
  )
}

export interface Outcome {
  kills: Kill[]
  long: Long | undefined
  counts: Counts
  counted: number | undefined
  initializeSent: number
  before: string
  /** Undefined: the server has none for this client. */
  after: string | undefined
  took: number
}

export function summary({ kills, counts, counted, long, initializeSent, before, after, took }: Outcome): void {
  const times = kills.map(({ recovery }) => recovery).sort((a, b) => a - b)
  const median = times[Math.floor(times.length / 2)] ?? 0
  const longest = times.at(-1) ?? 0
  print()
  fact('session before', before)
  fact('session after', after ?? red('none'), after === before ? 'the same' : '')
  fact('initialize', initializeSent, 'sent by the client')
  fact('calls made', counts.made)
  fact('calls failed', counts.failed, 'on the wire when the server was killed')
  if (counts.unexplained > 0) fact('calls failed', counts.unexplained, red('for no such reason'))
  fact('calls hung', counts.hung)
  if (counted !== undefined) {
    const lost = counted - counts.answered
    fact('calls counted', counted, `by the tool, in the session's state: ${counts.answered} answered, ${lost} cut off`)
  }
  if (long) fact('long call', seconds(long.took), `begun by ${long.killed}, which was killed; finished by ${long.by}`)
  if (times.length > 0) {
    const remark = `median, ${seconds(longest)} at most: from the kill to the next answer, with the start of the process`
    fact('recovered in', seconds(median), remark)
  }
  fact('took', seconds(took))
  print()
}

function fact(name: string, value: string | number, remark = ''): void {
  print(`  ${dim(name.padEnd(16))}${String(value)}${remark && `  ${dim(remark)}`}`)
}

export function good(text: string): void {
  print(`  ${green(text)}`)
}

export function bad(text: string): void {
  print(`  ${red(text)}`)
}
