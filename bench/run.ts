/**
 * Calls a second of mcp-roam beside what it is to be compared with: `npm run bench -- [--quick] [--only <names>] [--json]`.
 * All servers run at once, each in a process of its own, and are measured in turn, round by round.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { measure, type Plan } from './measure.js'
import { rows, table, verdicts } from './report.js'
import { SERVERS } from './servers/names.js'

const USAGE = `npm run bench -- [options]

  --quick            short rounds: under a minute, and noisier
  --only <names>     servers whose name contains one of these, comma-separated: ${SERVERS.join(', ')}
  --rounds <n>       rounds of each server
  --seconds <s>      length of a round
  --json             print the result as JSON
  --cpu-prof <dir>   let the servers write CPU profiles
`

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    json: { type: 'boolean', default: false },
    'cpu-prof': { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) {
  process.stdout.write(USAGE)
  process.exit()
}

const wanted = values.only.split(',')
const plan: Plan = {
  servers: SERVERS.filter((server) => wanted.some((part) => server.includes(part))),
  rounds: Number(values.rounds ?? (values.quick ? 5 : 20)),
  duration: 1000 * Number(values.seconds ?? (values.quick ? 0.3 : 1)),
  warmUp: values.quick ? 500 : 3000,
  connections: 32,
  sessions: 16,
  profiles: values['cpu-prof'],
}
if (plan.servers.length === 0 || !(plan.rounds >= 1) || !(plan.duration > 0)) {
  process.stderr.write(USAGE)
  process.exit(2)
}

const directory = mkdtempSync(join(tmpdir(), 'mcp-roam-bench-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

const result = rows(await measure(plan, directory, progress))
progress('')
const { connections, sessions, rounds, duration } = plan
if (values.json) {
  console.log(JSON.stringify({ node: process.version, connections, sessions, rounds, duration, rows: result }, null, 2))
} else {
  console.log(`${connections} connections, ${sessions} sessions, ${rounds} rounds of ${duration / 1000} s, medians`)
  console.log(`\n${table(result)}\n`)
  for (const line of verdicts(result)) console.log(line)
}

function progress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`)
}
