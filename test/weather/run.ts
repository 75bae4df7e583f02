/** `npm run weather`: every fault on every backend, one after the other, and a table of what came of it. */
import { parseArgs } from 'node:util'
import { seeded } from '../harness/random.js'
import { BACKENDS } from './backends.js'
import { type Result, runCell } from './cell.js'
import { table } from './table.js'

const USAGE = `npm run weather -- [options]

  --backend <text>  only backends whose name contains this
  --fault <text>    only faults whose name contains this
  --seed <n>        repeats a run; by default another one each time
  --minutes <n>     goes on, with seed after seed, until the time is up; by default each cell once
  --log             with what the nodes wrote, where a promise was not kept
  --list            says what there is
`

const { values } = parseArgs({
  options: {
    backend: { type: 'string', default: '' },
    fault: { type: 'string', default: '' },
    seed: { type: 'string' },
    minutes: { type: 'string' },
    log: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const contains = (name: string, part: string) => name.toLowerCase().includes(part.toLowerCase())
const cells = BACKENDS.filter(({ name }) => contains(name, values.backend)).flatMap((backend) =>
  backend.faults.filter(({ name }) => contains(name, values.fault)).map((fault) => ({ backend, fault })),
)
const first = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
const minutes = Number(values.minutes ?? 0)
if (values.help || cells.length === 0 || !Number.isInteger(first) || !(minutes >= 0)) {
  process.stderr.write(USAGE)
  process.exit(values.help ? 0 : 2)
}
if (values.list) {
  for (const { backend, fault } of cells) console.log(`${backend.name}: ${fault.name}`)
  process.exit()
}

const results: Result[] = []
const failures: string[] = []

function report(): void {
  console.log(`\nseed ${first}\n\n${table(results)}\n`)
  for (const failure of failures) console.log(failure)
}

/** What was started ends with this process: nodes with their stdin, services through their keeper. */
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    report()
    process.exit(1)
  })
}

const begun = performance.now()
const timeLeft = () => performance.now() - begun < 60_000 * minutes
for (let seed = first; seed === first || timeLeft(); seed++) {
  // in another order each time, so that a run that is too short for all of them is not always for the same ones
  const agenda = minutes > 0 ? shuffled(cells, seed) : cells
  for (const { backend, fault } of agenda) {
    if (minutes > 0 && !timeLeft()) break
    console.log(`${backend.name}, ${fault.name}, seed ${seed}`)
    try {
      const result = await runCell(backend, fault, { seed, wire: 3, sdk: 2, visitors: 2, calm: 2500 })
      if (!result) {
        console.log('  cannot be done on this machine')
        continue
      }
      results.push(result)
      const { counts, recovery, violations, known, lagged, nodeLog } = result
      console.log(`  ${counts.calls} calls, recovered in ${recovery} ms, ${violations.length} violations`)
      for (const violation of violations.slice(0, 20)) console.log(`  ! ${violation}`)
      for (const violation of known.slice(0, 20)) console.log(`  known: ${violation}`)
      for (const loss of lagged.slice(0, 20)) console.log(`  ~ ${loss}`)
      if (values.log) for (const line of nodeLog) console.log(`    ${line}`)
    } catch (error) {
      failures.push(`${backend.name}, ${fault.name}, seed ${seed}: did not come to an end: ${(error as Error).stack}`)
      console.log(failures.at(-1))
    }
  }
}
report()
process.exit(failures.length > 0 || results.some(({ violations }) => violations.length > 0) ? 1 : 0)

function shuffled<T>(items: readonly T[], seed: number): T[] {
  const random = seeded(seed)
  const rest = [...items]
  return items.map(() => rest.splice(random.below(rest.length), 1)[0] as T)
}
