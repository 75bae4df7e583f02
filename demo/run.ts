/**
 * `npm run demo`: starts three nodes on one SQLite file behind a proxy without affinity, connects a real SDK client, calls a
 * tool without pause, kills one node after the other with SIGKILL, and shows that the session goes on. Exits with 1 if the
 * session was lost, or a call hung.
 *
 * `npm run demo -- --backend redis://…` (or postgres://…) shows the same there; `--backend memory:` shows what happens
 * without a store that the nodes share.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { NodeProcess } from './node-process.js'
import { RoundRobinProxy } from './proxy.js'
import * as report from './report.js'
import { type Counts, SessionLost, Traffic } from './traffic.js'

const NAMES = ['A', 'B', 'C']
/** Each node once, and at the end the one that runs a long call. */
const KILLS = NAMES.length + 1
const CALLERS = 3
/** How long all nodes work between two kills, in ms; a bit different each time. */
const LIFE = () => 600 + Math.random() * 300

const folder = mkdtempSync(join(tmpdir(), 'mcp-roam-demo-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))

/** Whether all is well. */
async function run(backend: string): Promise<boolean> {
  const nodes = NAMES.map((name) => new NodeProcess(name, backend))
  const proxy = new RoundRobinProxy(nodes)
  let traffic: Traffic | undefined
  try {
    const begin = performance.now()
    await Promise.all([proxy.listen(), ...nodes.map((node) => node.start())])
    traffic = new Traffic(`${proxy.url}/mcp`)
    await traffic.open()
    report.opening(KILLS, {
      nodes: `McpServer behind mcp-roam: ${nodes.map(({ name, url, pid }) => `${name} ${url} (${pid})`).join(', ')}`,
      proxy: `round robin, no affinity, no retries: ${proxy.url}`,
      // What stands before the host may be a password.
      sessions: backend.replace(/\/\/.*@/, '//').replace(/\?.*/, ''),
      client: `@modelcontextprotocol/sdk, ${CALLERS} calls at a time, and a long one at the end`,
      session: traffic.sessionId,
    })
    return await killOneAfterTheOther(nodes, proxy, traffic, begin)
  } finally {
    await traffic?.close()
    proxy.close()
    await Promise.all(nodes.map((node) => node.kill()))
  }
}

async function killOneAfterTheOther(
  nodes: NodeProcess[],
  proxy: RoundRobinProxy,
  traffic: Traffic,
  begin: number,
): Promise<boolean> {
  const { counts } = traffic
  const before = traffic.sessionId
  const kills: report.Kill[] = []
  const nodeOf = (pid: number) => nodes.find((node) => node.pid === pid)

  let trouble: string | undefined
  let long: report.Long | undefined
  let counted: number | undefined
  let served = new Map(proxy.answers)
  let made = 0
  traffic.start(CALLERS)
  try {
    for (let i = 0; i < KILLS; i++) {
      await delay(LIFE())
      const call = i < nodes.length ? undefined : traffic.callLong()
      call?.answered.catch(() => {})
      const node = nodes[i] ?? nodeOf((await call?.underway) ?? 0)
      if (!node) throw new Error('No node says that it runs the long call.')
      const { failed } = counts
      const kill = {
        at: performance.now() - begin,
        node: node.name,
        killed: node.pid,
        session: before,
        made: counts.made - made,
        served: since(served, proxy.answers),
      }
      made = counts.made
      served = new Map(proxy.answers)
      const from = performance.now()
      const { answered, back } = await replace(node, traffic, from)
      kills.push({ ...kill, started: node.pid, failed: counts.failed - failed, answered, back })
      report.killed(kills[i] as report.Kill, i)
      if (call) {
        report.waiting()
        const { took, by } = await call.answered
        long = { took, killed: `${node.name} (${kill.killed})`, by: `${nodeOf(by)?.name} (${by})` }
      }
    }
    await traffic.stop()
    counted = await traffic.counted()
  } catch (error) {
    trouble = sentence(error)
    await traffic.stop()
  }

  const after = trouble === undefined ? traffic.sessionId : undefined
  const { initializeSent } = traffic
  const took = performance.now() - begin
  report.summary({ kills, counts, counted, long, served: proxy.answers, initializeSent, before, after, took })
  trouble ??= whatIsWrong(counts, counted ?? 0, before === after && initializeSent === 1)
  if (trouble === undefined) report.good(`The session survived ${KILLS} kills.`)
  else report.bad(trouble)
  return trouble === undefined
}

/** Kills a node and starts it again, while the others go on. */
async function replace(node: NodeProcess, traffic: Traffic, from: number) {
  let restart: Promise<void> | undefined
  const answered = await traffic.survive(async () => {
    await node.kill()
    restart = node.start()
    restart.catch(() => {})
  })
  await restart
  return { answered, back: performance.now() - from }
}

function since(before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): Map<string, number> {
  return new Map([...now].map(([name, answers]) => [name, answers - (before.get(name) ?? 0)]))
}

function whatIsWrong(counts: Counts, counted: number, same: boolean): string | undefined {
  if (!same) return 'The session is another one.'
  if (counts.hung > 0) return `${counts.hung} calls hung.`
  if (counts.unexplained > 0) return `${counts.unexplained} calls failed while no node was being killed.`
  if (counted < counts.answered) return 'The session has forgotten calls.'
  return undefined
}

function sentence(error: unknown): string {
  const { message } = error as Error
  return error instanceof SessionLost ? `The session is lost: ${message}.` : message
}

const { values } = parseArgs({
  options: { backend: { type: 'string', default: `sqlite:${join(folder, 'sessions.db')}` } },
})
const survived = await run(values.backend).catch((error: unknown) => {
  report.bad(sentence(error))
  return false
})
process.exit(survived ? 0 : 1)
