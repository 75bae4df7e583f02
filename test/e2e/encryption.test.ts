/** Real clients whose sessions are encrypted: they go on while the keys change. */
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { K1, K2 } from '../backend/sealed/keys.js'
import { connectClient } from '../harness/client.js'
import { startProxy } from '../harness/proxy.js'
import { Scene } from '../harness/scene.js'
import { SDKS, startServer, type TestServer } from '../harness/server.js'
import { discard, scratch } from '../services/children.js'
import { describeWith, postgresUrl, redisUrl, unique } from '../services/use.js'

function suite(place: () => { backend: string; namespace?: string }): void {
  test.each(SDKS)('a client of %s keeps its session over restarts with rotated keys', async (sdk) => {
    const where = place()
    const start = async (...keys: string[]): Promise<TestServer> => {
      const server = await startServer({ sdk, ...where, options: { retryInterval: 50, encryption: { keys } } })
      onTestFinished(() => server.kill())
      return server
    }
    let server = await start(K1)
    const proxy = await startProxy([server.url])
    onTestFinished(() => proxy.close())
    const client = await connectClient(sdk, `${proxy.url}/mcp`)
    onTestFinished(() => client.close())
    const restart = async (...keys: string[]) => {
      const answered = client.wire.answered.count
      await server.kill()
      server = await start(...keys)
      proxy.targets = [server.url]
      return answered
    }
    expect(await client.call('count')).toBe('1')
    await client.setLevel('error')

    // A new key that is used, the old one still there.
    await client.wire.streamOpened(await restart(K2, K1))
    expect(await client.call('count')).toBe('2')
    const scene = new Scene(client, [server])
    const since = scene.now
    await client.call('log', { level: 'warning', text: 'quiet' })
    await client.call('log', { level: 'error', text: 'loud' })
    await scene.logged('loud', since)
    expect(scene.logs(since)).toEqual(['loud'])

    // The old one is gone too soon, and put back.
    await restart(K2)
    await expect(client.call('count')).rejects.toThrow(/503|unavailable/i)
    expect(server.log).toMatch(/is encrypted with key [\w-]{8}, which is not among encryption\.keys/)
    await restart(K2, K1)
    await expect.poll(() => client.call('count').catch(String), { timeout: 20_000 }).toBe('3')
    expect(client.wire.count('initialize')).toBe(1)
    expect(client.wire.sessionIds).toEqual([client.sessionId()])
  })
}

describe('on SQLite', () => {
  suite(() => {
    const folder = scratch()
    onTestFinished(() => discard(folder))
    return { backend: `sqlite:${join(folder, 'sessions.db')}` }
  })
})
describeWith('on Redis', await redisUrl(), (url) => suite(() => ({ backend: url, namespace: unique() })))
describeWith('on PostgreSQL', await postgresUrl(), (url) => suite(() => ({ backend: url, namespace: unique() })))
