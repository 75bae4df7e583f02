/**
 * `npm run demo`: starts a server, connects a real SDK client, calls a tool without pause, kills the server with SIGKILL
 * again and again, and shows that the session goes on. Exits with 1 if the session was lost, or a call hung.
 *
 * `npm run demo -- --backend memory:` shows what happens without a store that outlives the server.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import * as report from './report.js'
import { ServerProcess } from './server-process.js'
import { type Counts, SessionLost, Traffic } from './traffic.js'

const KILLS = 4
const CALLERS = 3
/** How long the server may work between two kills, in ms; a bit different each time. */
const LIFE = () => 500 + Math.random() * 300

const folder = mkdtempSync(join(tmpdir(), 'mcp-roam-demo-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))

/** Whether all is well. */
async function run(backend: string): Promise<boolean> {
  const begin = performance.now()
  const server = new ServerProcess(backend)
  let traffic: Traffic | undefined
  try {
    await server.start()
    traffic = new Traffic(server.url)
    await traffic.open()
    return await killAgainAndAgain(server, traffic, backend, begin)
  } finally {
    await traffic?.close()
    await server.kill()
  }
}

async function killAgainAndAgain(
  server: ServerProcess,
  traffic: Traffic,
  backend: string,
  begin: number,
): Promise<boolean> {
  const { counts } = traffic
  const before = traffic.sessionId
  const kills: report.Kill[] = []
  report.opening(KILLS, {
    server: `McpServer behind mcp-roam, ${server.url}`,
    sessions: backend,
    client: `@modelcontextprotocol/sdk, ${CALLERS} calls at a time, and a long one at the end`,
    session: before,
  })

  let trouble: string | undefined
  let long: report.Long | undefined
  let counted: number | undefined
  traffic.start(CALLERS)
  try {
    let made = 0
    for (let i = 0; i < KILLS; i++) {
      await delay(LIFE())
      const call = i === KILLS - 1 ? traffic.callLong() : undefined
      call?.answered.catch(() => {})
      await call?.underway
      const { failed } = counts
      const [at, killed] = [performance.now() - begin, server.pid]
      const kill = { at, killed, before, made: counts.made - made }
      made = counts.made
      traffic.interrupted()
      await server.kill()
      const [recovery] = await Promise.all([traffic.recovered(), server.start()])
      kills.push({ ...kill, started: server.pid, after: traffic.sessionId, failed: counts.failed - failed, recovery })
      report.killed(kills[i] as report.Kill, i)
      if (call) {
        report.waiting()
        long = { ...(await call.answered), killed }
      }
    }
    await traffic.stop()
    counted = await traffic.counted()
  } catch (error) {
    trouble = (error as Error).message
    if (error instanceof SessionLost) trouble = `The session is lost: ${trouble}.`
    await traffic.stop()
  }

  const after = trouble === undefined ? traffic.sessionId : undefined
  const { initializeSent } = traffic
  report.summary({ kills, counts, counted, long, initializeSent, before, after, took: performance.now() - begin })
  trouble ??= whatIsWrong(counts, counted ?? 0, before === after && initializeSent === 1)
  if (trouble === undefined) report.good(`The session survived ${KILLS} kills.`)
  else report.bad(trouble)
  return trouble === undefined
}

function whatIsWrong(counts: Counts, counted: number, same: boolean): string | undefined {
  if (!same) return 'The session is another one.'
  if (counts.hung > 0) return `${counts.hung} calls hung.`
  if (counts.unexplained > 0) return `${counts.unexplained} calls failed while the server was there.`
  if (counted < counts.answered) return 'The session has forgotten calls.'
  return undefined
}

const { values } = parseArgs({
  options: { backend: { type: 'string', default: `sqlite:${join(folder, 'sessions.db')}` } },
})
const survived = await run(values.backend).catch((error: Error) => {
  report.bad(error.message)
  return false
})
process.exit(survived ? 0 : 1)
