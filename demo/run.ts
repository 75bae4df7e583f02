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
import { SessionLost, Traffic } from './traffic.js'

const KILLS = 5
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
    client: `@modelcontextprotocol/sdk, ${CALLERS} calls at a time`,
    session: before,
  })
  let lost: Error | undefined
  traffic.start(CALLERS)
  for (let i = 0; i < KILLS && !lost; i++) {
    await delay(LIFE())
    const start = { at: performance.now() - begin, killed: server.pid, made: counts.made, failed: counts.failed }
    try {
      traffic.interrupted()
      await server.kill()
      const [recovery] = await Promise.all([traffic.recovered(), server.start()])
      const kill = {
        at: start.at,
        killed: start.killed,
        started: server.pid,
        recovery,
        before,
        after: traffic.sessionId,
        made: start.made - kills.reduce((sum, { made }) => sum + made, 0),
        failed: counts.failed - start.failed,
      }
      kills.push(kill)
      report.killed(kill, i)
    } catch (error) {
      lost = error as Error
    }
  }
  await traffic.stop()
  const counted = lost ? undefined : await traffic.counted()
  const { initializeSent, sessionId } = traffic
  const after = lost ? undefined : sessionId
  report.summary({ kills, counts, counted, initializeSent, before, after, took: performance.now() - begin })

  if (lost) report.bad(lost instanceof SessionLost ? `The session is lost: ${lost.message}.` : `${lost.message}.`)
  else if (after !== before || initializeSent !== 1) report.bad('The session is another one.')
  else if (counts.hung > 0) report.bad(`${counts.hung} calls hung.`)
  else if (counts.unexplained > 0) report.bad(`${counts.unexplained} calls failed while the server was there.`)
  else if ((counted ?? 0) < counts.answered) report.bad('The session has forgotten calls.')
  else {
    report.good(`The session survived ${KILLS} kills.`)
    return true
  }
  return false
}

const { values } = parseArgs({
  options: { backend: { type: 'string', default: `sqlite:${join(folder, 'sessions.db')}` } },
})
const survived = await run(values.backend).catch((error: Error) => {
  report.bad(error.message)
  return false
})
process.exit(survived ? 0 : 1)
