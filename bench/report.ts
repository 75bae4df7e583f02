/** What the rounds say: medians over rounds, and ratios taken within each round. */
import type { Round } from './measure.js'
import type { ServerName } from './servers/names.js'
import { median } from './statistics.js'

export interface Row {
  server: ServerName
  callsPerSecond: number
  /** The slowest and the fastest round. */
  range: [number, number]
  p50: number
  p99: number
  cpuPerCall: number
  loadBusy: number
  /** Calls a second over those of another server: the SDK's transport (SSE answers, then JSON answers), ceiling, bare. */
  overSdk?: number
  overSdkJson?: number
  ofCeiling?: number
  ofBare?: number
}

export const GOALS = { overSdk: 3, ofCeiling: 0.9 }

export function rows(results: Map<ServerName, Round[]>): Row[] {
  return [...results].map(([server, rounds]) => {
    const line = /v[12]$/.exec(server)?.[0]
    const ratios = Object.entries({
      overSdk: ratio(rounds, results.get(`sdk-${line}` as ServerName)),
      overSdkJson: ratio(rounds, results.get(`sdk-json-${line}` as ServerName)),
      ofCeiling: ratio(rounds, results.get(`ceiling-${line}` as ServerName)),
      ofBare: ratio(rounds, results.get('bare')),
    }).filter(([, value]) => value !== undefined)
    const speeds = rounds.map((round) => round.callsPerSecond)
    return {
      server,
      callsPerSecond: median(speeds),
      range: [Math.min(...speeds), Math.max(...speeds)],
      p50: median(rounds.map((round) => round.p50)),
      p99: median(rounds.map((round) => round.p99)),
      cpuPerCall: median(rounds.map((round) => round.cpuPerCall)),
      loadBusy: median(rounds.map((round) => round.loadBusy)),
      ...Object.fromEntries(ratios),
    }
  })
}

const COLUMNS: Record<string, (row: Row) => string> = {
  server: (row) => row.server,
  'calls/s': (row) => row.callsPerSecond.toFixed(0),
  'slowest-fastest': ({ range }) => range.map((speed) => speed.toFixed(0)).join('-'),
  'p50 ms': (row) => row.p50.toFixed(2),
  'p99 ms': (row) => row.p99.toFixed(2),
  'cpu µs/call': (row) => row.cpuPerCall.toFixed(0),
  'load busy': (row) => `${(row.loadBusy * 100).toFixed(0)}%`,
  '× SDK': (row) => times(row.overSdk),
  '× SDK json': (row) => times(row.overSdkJson),
  '× ceiling': (row) => times(row.ofCeiling),
  '× bare': (row) => times(row.ofBare),
}

export function table(rows: Row[]): string {
  const names = Object.keys(COLUMNS)
  const cells = [names, ...rows.map((row) => names.map((name) => COLUMNS[name]?.(row) ?? ''))]
  const widths = names.map((_, i) => Math.max(...cells.map((line) => line[i]?.length ?? 0)))
  const lines = cells.map((line) =>
    line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
  )
  return lines.join('\n')
}

/** One line for each mcp-roam server: whether it reached the goals in this run. */
export function verdicts(rows: Row[]): string[] {
  return rows.flatMap(({ server, overSdk, ofCeiling }) => {
    if (!server.startsWith('roam-') || overSdk === undefined || ofCeiling === undefined) return []
    const met = overSdk >= GOALS.overSdk && ofCeiling >= GOALS.ofCeiling
    const goals = `(goals: ${times(GOALS.overSdk)} and ${times(GOALS.ofCeiling)})`
    return `${met ? 'ok    ' : 'MISSED'} ${server}: ${times(overSdk)} the SDK, ${times(ofCeiling)} the ceiling ${goals}`
  })
}

/** Of the same round, because the machine may be another's in the next. */
function ratio(rounds: Round[], others: Round[] | undefined): number | undefined {
  if (others === undefined) return undefined
  return median(rounds.map((round, i) => round.callsPerSecond / (others[i]?.callsPerSecond ?? Number.NaN)))
}

function times(ratio: number | undefined): string {
  return ratio === undefined ? '' : `${ratio.toFixed(2)}x`
}
