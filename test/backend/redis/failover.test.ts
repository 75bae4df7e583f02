import { expect, onTestFinished, test, vi } from 'vitest'
import { type RedisBackend, redis } from '../../../src/backend/redis.js'
import { describeWith, redisProgram, startRedis } from '../../services/use.js'
import { record } from '../record.js'
import { closing, connection, KINDS, MINUTE } from './fixture.js'
import { line } from './line.js'

const SOON = { timeout: 15_000, interval: 20 }

/** A primary and its replica, in step, and one address for both, which leads to the primary. */
async function pair() {
  const [old, next] = await Promise.all([startRedis(), startRedis()])
  const [atOld, atNext] = [connection(old.url), connection(next.url)]
  for (const server of [atOld, atNext]) await server.config('SET', 'repl-diskless-sync-delay', '0')
  await atNext.replicaof('127.0.0.1', new URL(old.url).port)
  await expect.poll(() => atNext.info('replication'), SOON).toMatch(/master_link_status:up/)
  const address = await line(old.url)
  return {
    old,
    next,
    atOld,
    address,
    atNext,
    /** The primary becomes a replica of nobody that is there: what happens elsewhere is never heard of here. */
    demote: () => atOld.replicaof('127.0.0.1', 1),
    async promote() {
      await atNext.replicaof('NO', 'ONE')
      address.leadTo(next.url)
    },
  }
}

/** As a node does it, only more often. Ends with the test. */
function heartbeat(backend: RedisBackend): { refused: string[] } {
  const refused: string[] = []
  let timer: NodeJS.Timeout
  const beat = async () => {
    await backend.bus.beat('node', MINUTE).catch((error: Error) => refused.push(error.message))
    timer = setTimeout(beat, 50)
  }
  void beat()
  onTestFinished(() => clearTimeout(timer))
  return { refused }
}

describeWith('Redis', await redisProgram(), () => {
  test.each(KINDS)(
    'writes, reads and messages follow the primary to another server (%s)',
    { timeout: 60_000 },
    async (_, of) => {
      const { next, atNext, address, demote, promote } = await pair()
      const backend = closing(redis(of(address.url)))
      const received: string[] = []
      await backend.bus.subscribe('topic', (message) => received.push(message))
      expect(await backend.sessions.create(record('kept'), MINUTE)).toBe(true)
      expect(await backend.sessions.create(record('deleted'), MINUTE)).toBe(true)
      await expect.poll(() => atNext.dbsize(), SOON).toBe(2)
      const { refused } = heartbeat(backend)

      await demote()
      await promote()
      const elsewhere = closing(redis({ url: next.url }))
      expect(await elsewhere.sessions.delete('deleted')).toBeDefined()

      await vi.waitFor(async () => expect(await backend.sessions.load('deleted')).toBeUndefined(), SOON)
      await vi.waitFor(async () => expect(await backend.sessions.create(record('new'), MINUTE)).toBe(true), SOON)
      expect((await elsewhere.sessions.load('new'))?.record).toEqual(record('new'))
      expect((await backend.sessions.load('kept'))?.record).toEqual(record('kept'))
      await vi.waitFor(async () => {
        await elsewhere.bus.publish('topic', 'from the other server')
        expect(received).toContain('from the other server')
      }, SOON)
      // It was a script that was refused.
      expect(refused.join('\n')).toMatch(/READONLY.*script/)
    },
  )

  test.each(KINDS)('a refused command is enough, too; the way that waits for replicas follows (%s)', async (_, of) => {
    const { next, address, demote, promote } = await pair()
    const third = await startRedis()
    const backend = closing(redis({ ...of(address.url), waitForReplicas: 1 }))
    expect(await backend.sessions.create(record('before'), MINUTE)).toBe(true)
    expect(await backend.sessions.touch('before', MINUTE)).toBe(true)
    await demote()
    await promote()
    await connection(third.url).replicaof('127.0.0.1', new URL(next.url).port)
    await expect(backend.sessions.touch('before', MINUTE)).rejects.toThrow(/READONLY/)
    // What rejects for want of a replica has been written all the same.
    let round = 0
    await vi.waitFor(() => backend.sessions.create(record(`${round++}`), MINUTE), SOON)
  })

  test.each(KINDS)('while there is no primary, connections are made at a bounded pace (%s)', async (_, of) => {
    const { address, demote, promote } = await pair()
    const backend = closing(redis(of(address.url)))
    await backend.bus.subscribe('topic', () => {})
    const { refused } = heartbeat(backend)
    await demote()
    await vi.waitFor(() => expect(refused.length).toBeGreaterThan(0), SOON)
    const before = address.connections
    const begin = performance.now()
    await vi.waitFor(() => expect(refused.length).toBeGreaterThan(60), SOON)
    const seconds = (performance.now() - begin) / 1_000
    // Two connections: at first in quick succession, then less than one in a second each.
    expect(address.connections - before).toBeLessThan(2 * (6 + seconds))
    expect(address.connections).toBeGreaterThan(before)
    await promote()
    await vi.waitFor(() => backend.bus.beat('node', MINUTE), SOON)
  })
})
