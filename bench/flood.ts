/**
 * What a flood of ids that are none takes from the live traffic of one node: `npm run bench:flood`, on SQLite, Redis and PostgreSQL, without
 * and with `secret`. Calls on live sessions over 8 connections are counted alone and beside a flood over 64, in turn; the ratio is the
 * median of these rounds. Callers, flood and node are processes of their own; on few processors they also fight for these, so the flood
 * is sent by a process as eager as the others, and by one of the lowest priority.
 *
 * Then somebody asks for sessions one by one, for another's and for unknown ones in turn: the medians must not differ.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Client } from 'undici'
import { binary } from '../test/services/binaries.js'
import { launchPostgres } from '../test/services/postgres.js'
import { launchRedis } from '../test/services/redis.js'
import { echoCall, HEADERS, INITIALIZE, openSession } from './client.js'
import type { FloodJob, FloodResult } from './flood/client.js'
import type { NodeState } from './flood/node.js'
import { Child } from './ipc.js'
import type { LoadJob, LoadResult } from './load.js'
import { median } from './statistics.js'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '3' },
    probes: { type: 'string', default: '300' },
    only: { type: 'string' },
  },
})
const SECRET = 'a secret of the bench, as long as it must be'
const CALLERS = 8
const FLOODERS = 64
const LEAD_IN = 500
const duration = Number(values.seconds) * 1000

const folder = mkdtempSync(join(tmpdir(), 'mcp-roam-bench-'))
const postgresServer = await launchPostgres(await binary('postgres'))
const redisServer = await launchRedis(await binary('redis'))
const places = { sqlite: join(folder, 'sessions.db'), redis: redisServer.url, postgres: postgresServer.url }

try {
  console.log(
    `node ${process.version}, ${availableParallelism()} processors, ${values.rounds} rounds of ${values.seconds} s\n`,
  )
  for (const [name, place] of Object.entries(places)) {
    if (values.only && values.only !== name) continue
    for (const secret of [undefined, SECRET]) await measure(name, place, secret)
  }
} finally {
  await postgresServer.stop()
  await redisServer.stop()
  rmSync(folder, { recursive: true, force: true })
}

async function measure(name: string, place: string, secret: string | undefined): Promise<void> {
  console.log(`${name}, ${secret ? 'with' : 'without'} secret`)
  const args = secret ? [place, secret] : [place]
  const { child: node } = await Child.start<object, NodeState>('node', './flood/node.ts', args)
  const { child: callers } = await Child.start<LoadJob, LoadResult>('callers', './load.ts', [])
  const { child: flooders } = await Child.start<FloodJob, FloodResult>('flooders', './flood/client.ts', [])
  try {
    const { url } = await node.ask({})
    const sessions = await Promise.all(Array.from({ length: CALLERS }, () => openSession(url)))
    const call = async () => {
      const job = { url, sessions, connections: CALLERS, leadIn: LEAD_IN, duration }
      return await callers.ask(job)
    }
    for (const nice of [false, true]) {
      const rounds: { alone: number; beside: number; cost: number }[] = []
      const statuses: FloodResult = {}
      let asked = 0
      for (let round = 0; round < Number(values.rounds); round++) {
        const start = await node.ask({})
        const alone = await call()
        const middle = await node.ask({})
        const flooding = flooders.ask({ url, connections: FLOODERS, duration: duration + LEAD_IN, pause: 0, nice })
        const beside = await call()
        for (const [status, count] of Object.entries(await flooding))
          statuses[+status] = (statuses[+status] ?? 0) + count
        const end = await node.ask({})
        asked += end.reads - middle.reads
        // How much more of the processor a call took beside the flood, all of the node's work counted.
        const cost = (end.cpu - middle.cpu) / beside.all / ((middle.cpu - start.cpu) / alone.all)
        rounds.push({ alone: alone.calls / (duration / 1000), beside: beside.calls / (duration / 1000), cost })
      }
      const of = (value: (round: (typeof rounds)[number]) => number) => median(rounds.map(value))
      const ratio = `${(100 * of(({ alone, beside }) => beside / alone)).toFixed(0)} %`
      const calls = `${of(({ alone }) => alone).toFixed(0)} calls/s alone, ${of(({ beside }) => beside).toFixed(0)} beside`
      const told = Object.entries(statuses).map(([status, count]) => `${count} times ${status}`)
      const cost = `${of((round) => round.cost).toFixed(2)} times the node's processor time a call`
      console.log(
        `  flood ${nice ? 'niced' : 'eager'}: ${ratio} (${calls}); ${cost}; ${told.join(', ')}; ${asked} reads`,
      )
    }
    await probe(url)
  } finally {
    for (const child of [flooders, callers, node]) await child.stop()
  }
}

/** How long the 404s for another's session and for unknown ones take. */
async function probe(url: string): Promise<void> {
  const { origin, pathname } = new URL(url)
  const client = new Client(origin)
  const ask = async (session: string | undefined, principal: string, body: string) => {
    const headers = { ...HEADERS, 'x-principal': principal, ...(session && { 'mcp-session-id': session }) }
    const start = performance.now()
    const answer = await client.request({ path: pathname, method: 'POST', headers, body })
    await answer.body.dump()
    return { took: performance.now() - start, session: String(answer.headers['mcp-session-id']) }
  }
  const { session } = await ask(undefined, 'alice', JSON.stringify(INITIALIZE))
  const foreign: number[] = []
  const unknown: number[] = []
  // An id as it is made here, of a session that is gone.
  const gone = await ask(undefined, 'bob', JSON.stringify(INITIALIZE))
  await client.request({
    path: pathname,
    method: 'DELETE',
    headers: { 'x-principal': 'bob', 'mcp-session-id': gone.session },
  })
  for (let i = 0; i < Number(values.probes); i++) {
    foreign.push((await ask(session, 'bob', echoCall(1, 'x'))).took)
    unknown.push((await ask(gone.session, 'bob', echoCall(1, 'x'))).took)
  }
  await client.destroy()
  const times = `another's ${median(foreign).toFixed(2)} ms, one that is gone ${median(unknown).toFixed(2)} ms`
  console.log(`  404 for a session, median: ${times}\n`)
}
