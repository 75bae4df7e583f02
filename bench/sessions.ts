/**
 * What many stored sessions cost one node: `npm run bench:sessions`. The same few thousand sessions are called on a node whose
 * SQLite store holds only these, then on one whose store holds 100,000. Memory must not differ; each call meets a
 * session that is not live, and is answered after a restore.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Connection } from './connection.js'
import { Child } from './ipc.js'
import type { NodeState } from './sessions/node.js'
import { fill } from './sessions/store.js'
import { percentile } from './statistics.js'

const { values } = parseArgs({
  options: {
    sessions: { type: 'string', default: '100000' },
    touched: { type: 'string', default: '3000' },
    json: { type: 'boolean', default: false },
  },
})
const MAX_LIVE = 100
const MEBIBYTE = 1024 * 1024

const directory = mkdtempSync(join(tmpdir(), 'mcp-roam-bench-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

const touched = Number(values.touched)
const result = [await measure(touched + MAX_LIVE), await measure(Number(values.sessions))]

if (values.json) console.log(JSON.stringify({ node: process.version, touched, maxLive: MAX_LIVE, result }, null, 2))
else result.forEach(print)

/** Fills a store with so many sessions and calls a few thousand of them on a node with few live sessions. */
async function measure(sessions: number) {
  const file = join(directory, `${sessions}.db`)
  const filling = performance.now()
  const ids = await fill(file, sessions, touched + MAX_LIVE)
  const filled = performance.now() - filling
  const { child } = await Child.start<unknown, NodeState>(
    'node',
    './sessions/node.ts',
    [file, String(MAX_LIVE)],
    ['--expose-gc'],
  )
  try {
    const start = await child.ask({})
    const connection = new Connection(start.url)
    for (const id of ids.splice(0, MAX_LIVE)) await connection.call(id)
    const before = await child.ask({})
    const restores: number[] = []
    for (const id of ids) restores.push(await connection.call(id))
    const after = await child.ask({})
    const live: number[] = []
    for (let i = 0; i < 1000; i++) live.push(await connection.call(ids.at(-1) ?? ''))
    await connection.close()
    return { sessions, filled, start, before, after, restores: summary(restores), live: summary(live) }
  } finally {
    await child.stop()
  }
}

function summary(latencies: number[]) {
  const [p50, p90, p99, max] = [50, 90, 99, 100].map((percent) => percentile(latencies, percent))
  return { p50, p90, p99, max }
}

function print({ sessions, filled, start, before, after, restores, live }: Awaited<ReturnType<typeof measure>>) {
  const memory = ({ rss, heapUsed }: NodeState) =>
    `${(rss / MEBIBYTE).toFixed(1)} MiB resident, ${(heapUsed / MEBIBYTE).toFixed(1)} MiB heap`
  const times = (latencies: object) =>
    Object.entries(latencies)
      .map(([name, ms]) => `${name} ${Number(ms).toFixed(2)}`)
      .join('  ')
  console.log(`${sessions} sessions in the store (filled in ${(filled / 1000).toFixed(1)} s), at most ${MAX_LIVE} live`)
  console.log(`  node started           ${memory(start)}`)
  console.log(`  ${MAX_LIVE} sessions called    ${memory(before)}`)
  console.log(`  ${touched} more called      ${memory(after)}`)
  console.log(`  restore and call, ms   ${times(restores)}`)
  console.log(`  call when live, ms     ${times(live)}\n`)
}
