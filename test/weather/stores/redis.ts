/** One Redis server; it appends each command to its file before it answers, so that a killed one loses nothing. */
import { binary } from '../../services/binaries.js'
import type { PrivateServer } from '../../services/children.js'
import { launchRedis } from '../../services/redis.js'
import { type Fault, seconds } from '../fault.js'
import type { Store } from '../store.js'

export interface OneRedis extends Store {
  server: PrivateServer
}

export async function startRedis(): Promise<OneRedis> {
  const server = await launchRedis(await binary('redis'))
  return {
    server,
    ports: [Number(new URL(server.url).port)],
    address: ([port = 0]) => ({ kind: 'redis', port }),
    stop: () => server.stop(),
  }
}

export const REDIS_FAULTS: readonly Fault<OneRedis>[] = [
  { name: 'store frozen 3 s', strike: ({ store }) => freeze(store, 3) },
  { name: 'store frozen 8 s', strike: ({ store }) => freeze(store, 8) },
  {
    name: 'store killed and started again',
    async strike({ store }) {
      await store.server.kill()
      await seconds(2)
      await store.server.restart()
    },
  },
]

async function freeze({ server }: OneRedis, time: number): Promise<void> {
  server.pause()
  await seconds(time)
  server.resume()
}
