/** Backends, each with the faults that it can have. */
import type { Fault } from './fault.js'
import { LINK_FAULTS, NODE_FAULTS } from './node-faults.js'
import type { Store } from './store.js'
import { POSTGRES_FAULTS, startPostgres } from './stores/postgres.js'
import { REDIS_FAULTS, startRedis } from './stores/redis.js'
import { CLUSTER_FAULTS, startRedisCluster } from './stores/redis-cluster.js'
import { SENTINEL_FAULTS, startRedisSentinel } from './stores/redis-sentinel.js'
import { SQLITE_FAULTS, startSqlite } from './stores/sqlite.js'

export interface Backend<S extends Store = Store> {
  name: string
  start(): Promise<S>
  faults: readonly Fault<S>[]
}

/** Of backends whose stores have nothing in common but what {@link Store} says: each is paired with its own faults here. */
const backend = <S extends Store>(name: string, start: () => Promise<S>, faults: readonly Fault<S>[]): Backend => ({
  name,
  start,
  faults: faults as unknown as readonly Fault[],
})

export const BACKENDS: readonly Backend[] = [
  backend('SQLite', startSqlite, [...NODE_FAULTS, ...SQLITE_FAULTS]),
  backend('Redis', startRedis, [...NODE_FAULTS, ...LINK_FAULTS, ...REDIS_FAULTS]),
  backend('Redis Sentinel', startRedisSentinel, [...NODE_FAULTS, ...LINK_FAULTS, ...SENTINEL_FAULTS]),
  backend('Redis Cluster', startRedisCluster, [...NODE_FAULTS, ...LINK_FAULTS, ...CLUSTER_FAULTS]),
  backend('PostgreSQL', startPostgres, [...NODE_FAULTS, ...LINK_FAULTS, ...POSTGRES_FAULTS]),
]
