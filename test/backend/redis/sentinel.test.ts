/** Behind sentinels: who the primary is, they say, and may change their mind. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { createSentinel } from 'redis'
import { expect, onTestFinished, test, vi } from 'vitest'
import { keysFor } from '../../../src/backend/redis/keys.js'
import { type RedisClient, redis } from '../../../src/backend/redis.js'
import { Child, discard, freePorts, scratch } from '../../services/children.js'
import { describeWith, redisProgram, startRedis, unique } from '../../services/use.js'
import { record } from '../record.js'
import { closing, connection, MINUTE } from './fixture.js'

const SOON = { timeout: 30_000, interval: 50 }
const NAME = 'primary'

const kinds: [string, (port: number) => RedisClient][] = [
  ['ioredis', (port) => new Redis({ sentinels: [{ host: '127.0.0.1', port }], name: NAME, lazyConnect: true })],
  ['node-redis', (port) => createSentinel({ name: NAME, sentinelRootNodes: [{ host: '127.0.0.1', port }] })],
]

/** A sentinel that alone decides. */
async function startSentinel(program: string, primary: string): Promise<{ port: number; client: Redis }> {
  const folder = scratch()
  const [port = 0] = await freePorts(1)
  const config = join(folder, 'sentinel.conf')
  const watch = `sentinel monitor ${NAME} 127.0.0.1 ${new URL(primary).port} 1`
  const patience = `sentinel down-after-milliseconds ${NAME} 1000\nsentinel failover-timeout ${NAME} 5000`
  writeFileSync(config, `port ${port}\nbind 127.0.0.1\ndir ${folder}\n${watch}\n${patience}\n`)
  const child = new Child(program, [config, '--sentinel'], { log: join(folder, 'log'), cwd: folder })
  onTestFinished(async () => {
    await child.stop()
    discard(folder)
  })
  const client = connection(`redis://127.0.0.1:${port}`)
  await vi.waitFor(() => client.ping(), SOON)
  return { port, client }
}

describeWith('Redis behind a sentinel', await redisProgram(), (program) => {
  test.each(kinds)(
    'everything follows the primary, whether it dies or is told to step back (%s)',
    { timeout: 120_000 },
    async (_, of) => {
      const [first, second] = await Promise.all([startRedis(), startRedis()])
      const [atFirst, atSecond] = [connection(first.url), connection(second.url)]
      for (const server of [atFirst, atSecond]) await server.config('SET', 'repl-diskless-sync-delay', '0')
      await atSecond.replicaof('127.0.0.1', new URL(first.url).port)
      await expect.poll(() => atSecond.info('replication'), SOON).toMatch(/master_link_status:up/)
      const sentinel = await startSentinel(program, first.url)
      await expect.poll(async () => String(await sentinel.client.call('INFO')), SOON).toMatch(/slaves=1/)

      const prefix = unique()
      const backend = closing(redis({ client: of(sentinel.port), prefix }))
      const received: string[] = []
      await backend.bus.subscribe('topic', (message) => received.push(message))
      let round = 0
      const works = async (mark: string) => {
        await vi.waitFor(async () => {
          expect(await backend.sessions.create(record(`${round++}`), MINUTE)).toBe(true)
        }, SOON)
        await vi.waitFor(async () => {
          await backend.bus.publish('topic', mark)
          expect(received).toContain(mark)
        }, SOON)
      }
      await works('before')

      expect(await sentinel.client.call('SENTINEL', 'FAILOVER', NAME)).toBe('OK')
      await expect.poll(() => atSecond.info('replication'), SOON).toMatch(/role:master/)
      await expect.poll(() => atFirst.info('replication'), SOON).toMatch(/role:slave/)
      await works('stepped back')
      expect(await atSecond.keys('*')).toContain(keysFor(prefix).session(`${round - 1}`))

      await expect.poll(() => atFirst.info('replication'), SOON).toMatch(/master_link_status:up/)
      await second.kill()
      await expect.poll(() => atFirst.info('replication'), SOON).toMatch(/role:master/)
      await works('after a death')
    },
  )
})
