/** A primary, a replica, and three sentinels that promote it. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../../harness/within.js'
import { freePorts } from '../../services/children.js'
import { type Fault, seconds } from '../fault.js'
import { natMap, type Store } from '../store.js'
import { RedisServer } from './redis-server.js'

const NAME = 'weather'

/** Silence after which the primary is down for a sentinel, in ms. */
const DOWN_AFTER = 1000

/** How long a failover, and what follows it, may take, in ms. */
const FAILOVER = 40_000

export interface RedisSentinel extends Store {
  servers: readonly [RedisServer, RedisServer]
  /** Where the sentinels say that the primary is. */
  primaryPort(): Promise<number>
}

export async function startRedisSentinel(): Promise<RedisSentinel> {
  const ports = await freePorts(5)
  const [first = 0, second = 0, ...rest] = ports
  const appending = ['--appendonly', 'yes', '--appendfsync', 'no', '--repl-diskless-sync-delay', '0']
  const servers = [
    new RedisServer(first, () => appending),
    new RedisServer(second, () => [...appending, '--replicaof', '127.0.0.1', `${first}`]),
  ] as const
  const sentinels = rest.map((port) => new RedisServer(port, (folder) => [settings(folder, first), '--sentinel']))
  const stop = async () => void (await Promise.all([...sentinels, ...servers].map((each) => each.stop())))
  try {
    for (const server of servers) await server.start()
    await until(() => inStep(servers[1]), 'a replica in step', FAILOVER)
    await Promise.all(sentinels.map((each) => each.start()))
    const ready = async () => {
      const states = await Promise.all(sentinels.map((each) => each.call('SENTINEL', 'CKQUORUM', NAME).catch(() => '')))
      const replicas = await Promise.all(sentinels.map((each) => each.call('SENTINEL', 'REPLICAS', NAME)))
      return (
        states.every((state) => /^OK 3/.test(String(state))) &&
        replicas.every((all) => Array.isArray(all) && all.length === 1)
      )
    }
    await until(ready, 'sentinels that know of each other', FAILOVER)
  } catch (error) {
    await stop()
    throw error
  }
  return {
    servers,
    ports,
    async primaryPort() {
      const address = await sentinels[0]?.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME)
      return Number((address as string[] | undefined)?.[1])
    },
    address: (ways) => ({ kind: 'redis-sentinel', sentinels: ways.slice(2), master: NAME, map: natMap(ports, ways) }),
    stop,
  }
}

function settings(folder: string, primary: number): string {
  const file = join(folder, 'sentinel.conf')
  const lines = [
    `sentinel monitor ${NAME} 127.0.0.1 ${primary} 2`,
    `sentinel down-after-milliseconds ${NAME} ${DOWN_AFTER}`,
    `sentinel failover-timeout ${NAME} 5000`,
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  return file
}

async function inStep(replica: RedisServer): Promise<boolean> {
  return String(await replica.call('INFO', 'replication')).includes('master_link_status:up')
}

/** Until the replica is what the sentinels say is the primary. */
async function promoted({ servers, primaryPort }: RedisSentinel): Promise<void> {
  const [, replica] = servers
  await until(
    async () => (await primaryPort()) === replica.port && (await replica.isPrimary()),
    'a promoted replica',
    FAILOVER,
  )
}

/** Until the primary of before follows the new one. */
async function demoted({ servers: [primary] }: RedisSentinel): Promise<void> {
  await until(async () => !(await primary.isPrimary()) && (await inStep(primary)), 'a demoted primary', FAILOVER)
}

export const SENTINEL_FAULTS: readonly Fault<RedisSentinel>[] = [
  {
    name: 'primary killed',
    async strike({ store }) {
      await store.servers[0].kill()
      await promoted(store)
    },
  },
  {
    name: 'primary frozen 8 s',
    // until it hears that it is no more the primary it takes writes that are lost then
    allows: ['lag'],
    async strike({ store }) {
      const [primary] = store.servers
      primary.pause()
      await Promise.all([seconds(8), promoted(store)])
      primary.resume()
      await demoted(store)
    },
  },
  {
    name: 'replica with lag promoted',
    allows: ['lag', 'unknown'],
    async strike({ store }) {
      const [primary, replica] = store.servers
      // the primary knows no password: it refuses a replica that gives one
      await replica.call('CONFIG', 'SET', 'masterauth', 'wrong')
      await primary.call('CLIENT', 'KILL', 'TYPE', 'replica')
      await seconds(2)
      await primary.kill()
      await promoted(store)
    },
  },
]
