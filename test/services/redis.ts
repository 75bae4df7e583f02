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

/** A plain Redis server. Its data survives `kill` and `restart`. */
export function launchRedis(binary: string): Promise<PrivateServer> {
  return withRetries(async () => {
    const folder = scratch()
    const [port = 0] = await freePorts(1)
    const start = () => launch(binary, folder, port, ['--appendonly', 'yes', '--appendfsync', 'no'])
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

export interface RedisCluster {
  nodes: { host: string; port: number }[]
  stop(): Promise<void>
}

/** A Redis Cluster of three masters without replicas. */
export function launchRedisCluster(binary: string): Promise<RedisCluster> {
  return withRetries(async () => {
    const folders = [scratch(), scratch(), scratch()]
    const ports = await freePorts(6)
    const nodes = folders.map((folder, i) => ({ folder, port: ports[i] ?? 0, bus: ports[i + 3] ?? 0 }))
    const children: Child[] = []
    const stop = async () => {
      await Promise.all(children.map((child) => child.stop()))
      for (const folder of folders) discard(folder)
    }
    try {
      await Promise.all(
        nodes.map(async ({ folder, port, bus }) => {
          // A bus port of its own, because the usual one (port + 10000) may not exist.
          const args = ['--cluster-enabled', 'yes', '--cluster-port', `${bus}`, '--cluster-announce-ip', '127.0.0.1']
          children.push(await launch(binary, folder, port, args))
        }),
      )
      await join3(nodes)
    } catch (error) {
      await stop()
      throw error
    }
    return { nodes: nodes.map(({ port }) => ({ host: '127.0.0.1', port })), stop }
  })
}

/** Makes one cluster of three empty nodes; `redis-cli --cluster create` would do it, but need not be installed. */
async function join3(nodes: { port: number; bus: number }[]): Promise<void> {
  const slots = 16_384
  const clients = nodes.map(({ port }) => connection(port))
  try {
    for (const [i, client] of clients.entries()) {
      await client.connect()
      const from = Math.floor((slots * i) / clients.length)
      const to = Math.floor((slots * (i + 1)) / clients.length) - 1
      await client.call('CLUSTER', 'ADDSLOTSRANGE', from, to)
      await client.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
      const first = nodes[0]
      if (i > 0 && first) await client.call('CLUSTER', 'MEET', '127.0.0.1', first.port, first.bus)
    }
    const deadline = Date.now() + 30_000
    for (const client of clients) {
      for (;;) {
        const info = String(await client.call('CLUSTER', 'INFO'))
        if (info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:3')) break
        if (Date.now() > deadline) throw new Error(`the Redis Cluster did not form: ${info}`)
        await delay(50)
      }
    }
  } finally {
    for (const client of clients) client.disconnect()
  }
}
