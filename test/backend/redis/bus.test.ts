import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { Redis } from 'ioredis'
import { onTestFinished, test } from 'vitest'
import { messageBus } from '../../../src/backend/redis/bus.js'
import { connectorForClient } from '../../../src/backend/redis/client.js'
import { keysFor } from '../../../src/backend/redis/keys.js'
import { Link } from '../../../src/backend/redis/link.js'
import { until } from '../../harness/within.js'
import { describeWith, redisUrl, unique } from '../../services/use.js'

describeWith('Redis', await redisUrl(), (url) => {
  test('a subscription that is lost without an error is noticed and made again', async () => {
    const { port, freeze } = await proxy(url)
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

    freeze()
    await bus.publish('topic', 'lost')
    await until(async () => {
      await bus.publish('topic', '')
      return received > 1
    })
  })
})

/** A way to Redis that can lose the connections it has without closing them. */
async function proxy(url: string): Promise<{ port: number; freeze(): void }> {
  const { hostname, port } = new URL(url)
  const sockets: Socket[] = []
  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    near.pipe(far).pipe(near)
    for (const socket of [near, far]) {
      socket.on('error', () => {})
      sockets.push(socket)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not a TCP address')
  return {
    port: address.port,
    freeze() {
      for (const socket of sockets) {
        socket.unpipe()
        socket.pause()
      }
    },
  }
}
