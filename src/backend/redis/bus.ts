/** Messages between nodes by PUBLISH and SUBSCRIBE (in a cluster SPUBLISH and SSUBSCRIBE), and a sorted set of the nodes that are alive. */
import type { MessageBus } from '../backend.js'
import type { Connector } from './connection.js'
import type { Keys } from './keys.js'
import type { Link } from './link.js'
import { milliseconds, NOW, run, script } from './script.js'
import { Subscriptions, TIMING } from './subscriptions.js'

const BEAT = script(`
${NOW}
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIREAT', KEYS[1], redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2])
return 1
`)

const NODES = script(`
${NOW}
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')
`)

/**
 * Publishes over `link`, and subscribes over connections of its own, made when they are first needed: one, or with `sharded` one
 * to each shard of the cluster.
 */
export function messageBus(
  link: Link,
  keys: Keys,
  connector: () => Promise<Connector>,
  { sharded = false, timing = TIMING } = {},
): MessageBus & Pick<Subscriptions, 'renew' | 'close'> {
  const subscriptions = new Subscriptions(link, connector, sharded, timing)

  return {
    publish: (topic, message) => subscriptions.publish(keys.channel(topic), message),

    subscribe: (topic, listener) => subscriptions.add(keys.channel(topic), listener),

    async beat(node, ttl) {
      await run(link, BEAT, [keys.nodes], [node, milliseconds(ttl)])
    },

    async leave(node) {
      await link.send(keys.nodes, ['zrem', keys.nodes, node])
    },

    async nodes() {
      const nodes = await run(link, NODES, [keys.nodes])
      return Array.isArray(nodes) ? nodes.map(String) : []
    },

    renew: (reason) => subscriptions.renew(reason),

    close: () => subscriptions.close(),
  }
}
