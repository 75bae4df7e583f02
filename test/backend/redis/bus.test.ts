import { Redis } from 'ioredis'
import { onTestFinished, test } from 'vitest'
import { messageBus } from '../../../src/backend/redis/bus.js'
import { connectorForClient } from '../../../src/backend/redis/client.js'
import { keysFor } from '../../../src/backend/redis/keys.js'
import { Link } from '../../../src/backend/redis/link.js'
import { until } from '../../harness/within.js'
import { describeWith, redisUrl, unique } from '../../services/use.js'
import { line } from './line.js'

describeWith('Redis', await redisUrl(), (url) => {
  test('a subscription that is lost without an error is noticed and made again', async () => {
    const { port, silence } = await line(url)
    const client = new Redis(port, '127.0.0.1', { lazyConnect: true })
    const link = new Link(async () => connectorForClient(new Redis(url, { lazyConnect: true })))
    const bus = messageBus(link, keysFor(unique()), async () => connectorForClient(client), {
      timing: { lookEvery: 20, testEvery: 20, limit: 100 },
    })
    onTestFinished(() => {
      bus.close()
      link.close()
    })
    let received = 0
    await bus.subscribe('topic', () => received++)
    await bus.publish('topic', '')
    await until(() => received === 1)

    silence()
    await bus.publish('topic', 'lost')
    await until(async () => {
      await bus.publish('topic', '')
      return received > 1
    })
  })
})
