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
  node: string
  killed: number
  started: number
  session: string
  made: number
  failed: number
  /** Answers of each node since the kill before. */
  served: ReadonlyMap<string, number>
  /** From the kill to the next answer, in ms. */
  answered: number
  /** From the kill to the node's return, in ms. */
  back: number
}

/** Negative widths: flush left. */
const COLUMNS: [title: string, width: number, cell: (kill: Kill, index: number) => string][] = [
  ['kill', 4, (_, index) => String(index + 1)],
  ['at', 7, ({ at }) => seconds(at)],
  ['node', -4, ({ node }) => node],
  ['process', -17, ({ killed, started }) => `${killed} -> ${started}`],
  ['session', -8, ({ session }) => session.slice(0, 8)],
  ['calls', 5, ({ made }) => String(made)],
  ['failed', 6, ({ failed }) => String(failed)],
  ['served by', -17, ({ served }) => shares(served)],
  ['next answer', 11, ({ answered }) => seconds(answered)],
  ['node back', 9, ({ back }) => seconds(back)],
]

function shares(served: ReadonlyMap<string, number>): string {
  const names = [...served.keys()].sort()
  return names.map((name) => `${name} ${served.get(name)}`).join('  ')
}

function row(cells: string[]): string {
  const padded = cells.map((cell, i) => {
    const width = COLUMNS[i]?.[1] ?? 0
    return width < 0 ? cell.padEnd(-width) : cell.padStart(width)
  })
  return `  ${padded.join('  ')}`
}

export function opening(kills: number, facts: Record<string, string>): void {
  print(bold(`One MCP session on three nodes, which are killed ${kills} times while its client goes on calling`))
  print()
  for (const [name, fact] of Object.entries(facts)) print(`  ${dim(name.padEnd(10))}${fact}`)
  print()
  print(dim(row(COLUMNS.map(([title]) => title))))
}

export function killed(kill: Kill, index: number): void {
  print(row(COLUMNS.map(([, , cell]) => cell(kill, index))))
}

/** A call whose node was killed half-way. */
export interface Long {
  took: number
  killed: string
  /** The node that answered it. */
  by: string
}

export function waiting(): void {
  print()
  print(dim('  The node ran a long call, too. Another one runs it again as soon as the node is known to be dead.'))
}

export interface Outcome {
  kills: Kill[]
  long: Long | undefined
  counts: Counts
  counted: number | undefined
  served: ReadonlyMap<string, number>
  initializeSent: number
  before: string
  /** Undefined: no node knows it. */
  after: string | undefined
  took: number
}

export function summary(outcome: Outcome): void {
  const { kills, counts, counted, long, served, initializeSent, before, after, took } = outcome
  print()
  fact('session before', before || red('none'))
  fact('session after', after ?? red('none'), after === before ? 'the same' : '')
  fact('initialize', initializeSent, 'sent by the client')
  fact('served by', shares(served), 'HTTP requests')
  fact('calls made', counts.made)
  fact('calls failed', counts.failed, 'on their way when a node was killed')
  if (counts.unexplained > 0) fact('calls failed', counts.unexplained, red('for no such reason'))
  fact('calls hung', counts.hung)
  if (counted !== undefined) {
    const lost = counted - counts.answered
    fact('calls counted', counted, `by the tool, in the session's state: ${counts.answered} answered, ${lost} cut off`)
  }
  if (long) fact('long call', seconds(long.took), `begun by ${long.killed}, which was killed; finished by ${long.by}`)
  if (kills.length > 0) {
    fact('next answer', ...spread(kills.map(({ answered }) => answered)))
    fact('node back', ...spread(kills.map(({ back }) => back)))
  }
  fact('took', seconds(took))
  print()
}

function spread(times: number[]): [string, string] {
  const sorted = times.toSorted((a, b) => a - b)
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0
  return [seconds(median), `after a kill: median; ${seconds(sorted.at(-1) ?? 0)} at most`]
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
