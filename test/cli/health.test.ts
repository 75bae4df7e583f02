/** `/healthz`, which anybody may ask. */
import { expect, it, onTestFinished } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { startHttpServer } from '../../src/cli/serve/http-server.js'

async function serve() {
  let pings = 0
  let isAway = false
  const ping = async () => {
    pings++
    if (isAway) throw new Error('away')
  }
  const server = await startHttpServer(
    {
      ...{ host: '127.0.0.1', port: 0, path: '/mcp', command: 'no-such-command', args: [], env: {} },
      ...{ allowedHosts: [], allowedOrigins: [], auth: { keys: [], keyFile: undefined, oauth: undefined } },
      ...{ maxSessions: 1, idle: 1_000, sessionTtl: 60_000 },
    },
    { ...memory(), ping },
    () => {},
  )
  onTestFinished(() => server.close())
  return {
    server,
    pings: () => pings,
    goAway: () => {
      isAway = true
    },
    status: async () => (await fetch(`http://127.0.0.1:${server.port}/healthz`)).status,
  }
}

it('asks the backend at a pace of its own, however often it is asked, and soon sees a change', async () => {
  const { pings, goAway, status } = await serve()
  const since = performance.now()
  for (let i = 0; i < 20; i++) {
    expect(await Promise.all(Array.from({ length: 10 }, status))).toEqual(Array(10).fill(200))
  }
  expect(pings()).toBeLessThanOrEqual((performance.now() - since) / 100 + 1)
  goAway()
  await expect.poll(status, { timeout: 2_000 }).toBe(503)
})

it('says at once that the node is draining', async () => {
  const { server, status } = await serve()
  expect(await status()).toBe(200)
  const drained = server.drain({ notice: 500, timeout: 0 })
  expect(await status()).toBe(503)
  await drained
})
