/** Three nodes, each a process of its own, on one backend, behind a proxy without affinity. */
import { join } from 'node:path'
import { describe } from 'vitest'
import { type Door, urlDoor } from '../harness/door.js'
import { startProxy, type TestProxy } from '../harness/proxy.js'
import { type ServerOptions, startServer, type TestServer } from '../harness/server.js'
import { type InitializeOptions, openSession, type WireClient } from '../harness/wire-client.js'
import { discard, scratch } from '../services/children.js'
import { describeWith, postgresUrl, redisClusterNodes, redisUrl, unique } from '../services/use.js'

/** Index of a node. */
export const A = 0
export const B = 1
export const C = 2

export interface ClusterOptions extends ServerOptions {
  /** Default 3. */
  size?: number
}

export class Cluster {
  constructor(
    readonly nodes: readonly TestServer[],
    readonly proxy: TestProxy,
    readonly backend: string,
    readonly namespace: string,
  ) {}

  /** The MCP endpoint that clients know. */
  get url(): string {
    return `${this.proxy.url}/mcp`
  }

  get log(): string {
    return this.nodes.map((node, index) => `--- node ${index}\n${node.log}`).join('\n')
  }

  node(index: number): TestServer {
    const node = this.nodes[index]
    if (!node) throw new Error(`no node ${index}`)
    return node
  }

  /** A way to one node, for {@link WireClient}s; `patience`: longest wait for an answer, in ms. */
  at(index: number, patience?: number): Door {
    return urlDoor(this.node(index).url, patience)
  }

  /** A client without an SDK, whose requests go to node A until it is told otherwise. */
  open(options?: InitializeOptions): Promise<WireClient> {
    return openSession(this.at(A), options)
  }

  /** Does something with all nodes at once. */
  async each(work: (node: TestServer) => Promise<void>): Promise<void> {
    await Promise.all(this.nodes.map(work))
  }

  async stop(): Promise<void> {
    await this.proxy.close()
    await this.each((node) => node.kill())
  }
}

/** Whoever starts one stops it. */
export async function startCluster({ size = 3, ...options }: ClusterOptions): Promise<Cluster> {
  const { namespace = unique() } = options
  const backend = options.backend === SQLITE ? sqliteUrl(namespace) : (options.backend ?? 'memory')
  const starts = Array.from({ length: size }, () =>
    startServer({ ...options, backend, namespace, options: { retryInterval: 50, ...options.options } }),
  )
  const outcomes = await Promise.allSettled(starts)
  const nodes = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
  try {
    await Promise.all(starts)
    const proxy = await startProxy(nodes.map((node) => node.url))
    return new Cluster(nodes, proxy, backend, namespace)
  } catch (error) {
    await Promise.all(nodes.map((node) => node.kill()))
    throw error
  }
}

export interface BackendKind {
  name: 'SQLite' | 'Redis' | 'Redis Cluster' | 'PostgreSQL'
  /** Undefined: not to be had here. */
  service: { url: string } | undefined
}

const [redis, clusterNodes, postgres] = await Promise.all([redisUrl(), redisClusterNodes(), postgresUrl()])

/** Stands for a file that each cluster makes for itself; namespaces keep clusters apart on the other backends. */
export const SQLITE = 'sqlite'

let folder: string | undefined

function sqliteUrl(namespace: string): string {
  if (folder === undefined) {
    const made = scratch()
    folder = made
    process.once('exit', () => discard(made))
  }
  return `sqlite:${join(folder, `${namespace}.db`)}`
}

/** What a cluster can be on. */
export const BACKENDS: readonly BackendKind[] = [
  { name: 'SQLite', service: { url: SQLITE } },
  { name: 'Redis', service: redis === undefined ? undefined : { url: redis } },
  {
    name: 'Redis Cluster',
    service: clusterNodes && {
      url: `redis-cluster:${clusterNodes.map(({ host, port }) => `${host}:${port}`).join(',')}`,
    },
  },
  { name: 'PostgreSQL', service: postgres === undefined ? undefined : { url: postgres } },
]

/** `describe` for each backend that can be had here. */
export function describeBackends(
  body: (url: string, name: BackendKind['name']) => void,
  names: readonly BackendKind['name'][] = BACKENDS.map(({ name }) => name),
): void {
  for (const { name, service } of BACKENDS) {
    if (!names.includes(name)) continue
    if (service) describe(`three nodes on ${name}`, () => body(service.url, name))
    else describeWith(`three nodes on ${name}`, service, () => {})
  }
}
