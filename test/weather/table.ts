/**
 * The table that a run prints: a row for each fault on each backend, in Markdown. What the machine makes slow shows before the
 * fault, and in stalls of the clients' own process.
 */
import type { Result } from './cell.js'
import type { Counts } from './judge.js'
import { RECOVERY_GOAL } from './terms.js'

const COLUMNS: readonly (keyof Counts)[] = [
  ...(['calls', 'unknown', 'cut', 'refused', 'resumed', 'events', 'deletes', 'stale', 'lagged'] as const),
]

export function table(results: readonly Result[]): string {
  const rows = [...new Set(results.map(title))].map((each) => row(results.filter((result) => title(result) === each)))
  const head = [
    'backend',
    'fault',
    ...COLUMNS,
    'calls before, ms',
    'stalls, ms',
    'recovered, ms',
    'events late, ms',
    'known',
    'violations',
  ]
  const all = [head, head.map((_, i) => (i < 2 ? '---' : '--:')), ...rows]
  return all.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

const title = ({ backend, fault }: Result) => `${backend}, ${fault}`

/** Of all runs of one cell. */
function row(results: readonly Result[]): (string | number)[] {
  const sum = (of: (result: Result) => number) => results.reduce((total, result) => total + of(result), 0)
  const goal = (ms: number) => (ms > RECOVERY_GOAL ? `**${ms}**` : ms)
  return [
    results[0]?.backend ?? '',
    results[0]?.fault ?? '',
    ...COLUMNS.map((column) => sum(({ counts }) => counts[column])),
    Math.max(...results.map(({ usual }) => usual)),
    Math.max(...results.map(({ stall }) => stall)),
    goal(Math.max(...results.map(({ recovery }) => recovery))),
    goal(Math.max(...results.map(({ delay }) => delay))),
    sum(({ known }) => known.length),
    sum(({ violations }) => violations.length),
  ]
}
