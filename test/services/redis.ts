/** Starts Redis (or Valkey) servers from an installed binary. */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { Child, discard, freePorts, type PrivateServer, scratch, untilReady, withRetries } from './children.js'

const COMMON = ['--bind', '127.0.0.1', '--daemonize', 'no', '--save', '', '--dir', '.']

async function launch(binary: string, folder: string, port: number, args: string[]): Promise<Child> {
  const log = join(folder, 'log')
  const child = new Child(binary, [...COMMON, '--port', `${port}`, ...args], { log, cwd: folder })
  await untilReady(child, log, () => answers(port))
  return child
}

async function answers(port: number): Promise<boolean> {
  const client = connection(port)
  try {
    await client.connect()
    return (await client.ping()) === 'PONG'
  } catch {
    return false
  } finally {
    client.disconnect()
  }
}

function connection(port: number): Redis {
  const client = new Redis(port, '127.0.0.1', { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0 })
  client.on('error', () => {})
  return client
}

/** A plain Redis server, with more settings if need be. Its data survives `kill` and `restart`. */
export function launchRedis(binary: string, settings: readonly string[] = []): Promise<PrivateServer> {
  return withRetries(async () => {
    const folder = scratch()
    const [port = 0] = await freePorts(1)
    const start = () => launch(binary, folder, port, ['--appendonly', 'yes', '--appendfsync', 'no', ...settings])
    let child: Child
    try {
      child = await start()
    } catch (error) {
      discard(folder)
      throw error
    }
    return {
      url: `redis://127.0.0.1:${port}`,
      pause: () => child.pause(),
      resume: () => child.resume(),
      kill: () => child.kill(),
      async restart() {
        await child.stop()
        child = await start()
      },
      async stop() {
        await child.stop()
        discard(folder)
      },
    }
  })
}

/** A cluster, which a test may hurt as a whole like a {@link PrivateServer}. */
export interface RedisCluster extends Omit<PrivateServer, 'url'> {
  nodes: { host: string; port: number }[]
  /** One of its servers, which a test may hurt by itself. */
  server(port: number): Pick<PrivateServer, 'pause' | 'resume' | 'kill'>
}

/** A Redis Cluster of three masters, with a replica of each or without. Its data survives `kill` and `restart`. */
export function launchRedisCluster(binary: string, { replicas = false } = {}): Promise<RedisCluster> {
  return withRetries(async () => {
    const count = replicas ? 6 : 3
    const ports = await freePorts(2 * count)
    const nodes = ports.slice(0, count).map((port, i) => ({ folder: scratch(), port, bus: ports[count + i] ?? 0 }))
    let children: Child[] = []
    const start = async () => {
      const attempts = nodes.map(({ folder, port, bus }) =>
        // A bus port of its own, because the usual one (port + 10000) may not exist.
        launch(binary, folder, port, [
          ...['--cluster-enabled', 'yes', '--cluster-port', `${bus}`, '--cluster-announce-ip', '127.0.0.1'],
          ...['--appendonly', 'yes', '--appendfsync', 'no'],
          // With a replica to promote, the death of a master is noticed soon.
          ...(replicas ? ['--cluster-node-timeout', '2000', '--repl-diskless-sync-delay', '0'] : []),
        ]),
      )
      const outcomes = await Promise.allSettled(attempts)
      children = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
      await Promise.all(attempts)
    }
    const end = () => Promise.all(children.map((child) => child.stop()))
    const stop = async () => {
      await end()
      for (const { folder } of nodes) discard(folder)
    }
    try {
      await start()
      await gather(nodes)
    } catch (error) {
      await stop()
      throw error
    }
    return {
      nodes: nodes.map(({ port }) => ({ host: '127.0.0.1', port })),
      stop,
      server(port) {
        const child = children[nodes.findIndex((node) => node.port === port)]
        if (!child) throw new Error('not a server of the cluster')
        return child
      },
      pause: () => children.forEach((child) => void child.pause()),
      resume: () => children.forEach((child) => void child.resume()),
      kill: async () => void (await Promise.all(children.map((child) => child.kill()))),
      async restart() {
        await end()
        await start()
      },
    }
  })
}

/** Makes one cluster of empty nodes: three masters, then replicas. `redis-cli --cluster create` need not be installed. */
async function gather(nodes: { port: number; bus: number }[]): Promise<void> {
  const slots = 16_384
  const clients = nodes.map(({ port }) => connection(port))
  const masters = clients.slice(0, 3)
  const until = async (client: Redis, command: [string, ...string[]], ...said: string[]) => {
    const deadline = Date.now() + 30_000
    for (;;) {
      const info = String(await client.call(...command))
      if (said.every((each) => info.includes(each))) return
      if (Date.now() > deadline) throw new Error(`the Redis Cluster did not form: ${info}`)
      await delay(50)
    }
  }
  try {
    for (const [i, client] of clients.entries()) {
      await client.connect()
      if (i < masters.length) {
        const from = Math.floor((slots * i) / masters.length)
        const to = Math.floor((slots * (i + 1)) / masters.length) - 1
        await client.call('CLUSTER', 'ADDSLOTSRANGE', from, to)
        await client.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
      }
      const first = nodes[0]
      if (i > 0 && first) await client.call('CLUSTER', 'MEET', '127.0.0.1', first.port, first.bus)
    }
    const known = `cluster_known_nodes:${nodes.length}`
    for (const client of clients) await until(client, ['CLUSTER', 'INFO'], 'cluster_state:ok', known)
    for (const [i, client] of clients.slice(masters.length).entries()) {
      await client.call('CLUSTER', 'REPLICATE', String(await masters[i]?.call('CLUSTER', 'MYID')))
      await until(client, ['INFO', 'replication'], 'master_link_status:up')
    }
  } finally {
    for (const client of clients) client.disconnect()
  }
}
