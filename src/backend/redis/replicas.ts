/** Writes that count only when replicas have them, so that a failover to one of those does not take them back. */
import { type Link, RedisUnavailable } from './link.js'

/** How long replicas may take, in milliseconds. */
const REPLICATION_TIMEOUT = 1_000

/** The way of a write to the server that has its key. */
export type Writes = Pick<Link, 'send'>

/**
 * Has each write wait for replicas. What rejects has been written all the same, and may be lost by a failover.
 *
 * @param link Not to be used for anything else: WAIT holds up all that is sent after it.
 */
export function waitingForReplicas(link: Link, replicas: number): Writes {
  return {
    async send(key = '', args) {
      // In a row, because WAIT is about the writes of its own connection, and a new one has none.
      const wait = ['wait', String(replicas), String(REPLICATION_TIMEOUT)]
      const [reply, count] = await link.sendInARow(key, [args, wait])
      if (Number(count) >= replicas) return reply
      throw new RedisUnavailable(`Redis: ${count} of ${replicas} replicas had a write within ${REPLICATION_TIMEOUT} ms`)
    },
  }
}
