/** A Redis Cluster of three primaries with a replica each. */

import { until } from '../../harness/within.js'
import { freePorts } from '../../services/children.js'
import { type Fault, seconds } from '../fault.js'
import { natMap, type Store } from '../store.js'
import { RedisServer } from './redis-server.js'

/** Silence after which a server is down for the others, in ms. */
const NODE_TIMEOUT = 1500

/** How long a failover, and what follows it, may take, in ms. */
const FAILOVER = 40_000

const SLOTS = 16_384

export interface RedisCluster extends Store {
  primaries: readonly RedisServer[]
  /** In the order of the primaries. */
  replicas: readonly RedisServer[]
}

export async function startRedisCluster(): Promise<RedisCluster> {
  const all = await freePorts(12)
  const ports = all.slice(0, 6)
  const bus = (i: number) => all[6 + i] ?? 0
  const servers = ports.map(
    (port, i) =>
      new RedisServer(port, () => [
        // a bus port of its own, because the usual one (port + 10000) may not exist
        ...['--cluster-enabled', 'yes', '--cluster-port', `${bus(i)}`, '--cluster-announce-ip', '127.0.0.1'],
        ...['--cluster-node-timeout', `${NODE_TIMEOUT}`, '--repl-diskless-sync-delay', '0'],
        ...['--appendonly', 'yes', '--appendfsync', 'no'],
      ]),
  )
  const [primaries, replicas] = [servers.slice(0, 3), servers.slice(3)]
  const stop = async () => void (await Promise.all(servers.map((each) => each.stop())))
  try {
    await Promise.all(servers.map((each) => each.start()))
    for (const [i, primary] of primaries.entries()) {
      const [from, to] = [i, i + 1].map((part) => Math.floor((SLOTS * part) / 3))
      await primary.call('CLUSTER', 'ADDSLOTSRANGE', from ?? 0, (to ?? 0) - 1)
      await primary.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
    }
    for (const other of servers.slice(1)) await other.call('CLUSTER', 'MEET', '127.0.0.1', ports[0] ?? 0, bus(0))
    await until(() => every(servers, /cluster_known_nodes:6/, /cluster_state:ok/), 'a cluster', FAILOVER)
    for (const [i, replica] of replicas.entries()) {
      const id = String(await primaries[i]?.call('CLUSTER', 'MYID'))
      await replica.call('CLUSTER', 'REPLICATE', id)
    }
    await until(async () => (await Promise.all(replicas.map(inStep))).every(Boolean), 'replicas in step', FAILOVER)
    // each of them must know of all replicas, or nobody is elected
    const known = async (server: RedisServer) =>
      String(await server.call('CLUSTER', 'NODES'))
        .split('\n')
        .filter((line) => line.includes('slave')).length === 3
    await until(async () => (await Promise.all(servers.map(known))).every(Boolean), 'replicas that are known', FAILOVER)
  } catch (error) {
    await stop()
    throw error
  }
  return {
    ...{ primaries, replicas, ports, stop },
    address: (ways) => ({ kind: 'redis-cluster', ports: [...ways], map: natMap(ports, ways) }),
  }
}

async function every(servers: readonly RedisServer[], ...signs: RegExp[]): Promise<boolean> {
  const infos = await Promise.all(servers.map((each) => each.call('CLUSTER', 'INFO').catch(() => '')))
  return infos.every((info) => signs.every((sign) => sign.test(String(info))))
}

async function inStep(replica: RedisServer): Promise<boolean> {
  return String(await replica.call('INFO', 'replication').catch(() => '')).includes('master_link_status:up')
}

/** Until the replica has taken the place of the primary, and all that are left know it. */
async function promoted({ primaries, replicas }: RedisCluster, index: number): Promise<void> {
  const alive = [...primaries.filter((_, i) => i !== index), ...replicas]
  const replica = replicas[index]
  await until(
    async () => ((await replica?.isPrimary()) ?? false) && (await every(alive, /cluster_state:ok/)),
    'a promoted replica',
    FAILOVER,
  )
}

export const CLUSTER_FAULTS: readonly Fault<RedisCluster>[] = [
  {
    name: 'primary killed',
    async strike({ store, random }) {
      const index = random.below(3)
      await store.primaries[index]?.kill()
      await promoted(store, index)
    },
  },
  {
    name: 'primary frozen 8 s',
    // until it hears that it is no more a primary it takes writes that are lost then
    allows: ['lag'],
    async strike({ store, random }) {
      const index = random.below(3)
      const primary = store.primaries[index]
      primary?.pause()
      await Promise.all([seconds(8), promoted(store, index)])
      primary?.resume()
      await until(async () => primary !== undefined && (await inStep(primary)), 'a demoted primary', FAILOVER)
    },
  },
  {
    name: 'primary killed and started again before it is missed',
    async strike({ store, random }) {
      const primary = random.pick(store.primaries)
      await primary.kill()
      await primary.start()
      await until(() => every(store.primaries, /cluster_state:ok/), 'a cluster', FAILOVER)
    },
  },
]
