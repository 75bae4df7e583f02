/** Real nodes as processes, to be killed, paused, drained and started again; all on one backend. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Child } from '../harness/child.js'
import type { Sdk } from '../harness/server.js'
import { discard, freePorts, type PrivateServer, scratch } from '../services/children.js'
import { postgresProgram, redisProgram, startPostgres, startRedis } from '../services/use.js'
import type { NodeOptions } from './node.js'
import type { Run } from './tools.js'

export type BackendName = 'SQLite' | 'Redis' | 'PostgreSQL'

/** The backends that are to be had here, each with how to start one. A backend without a server has nothing to restart. */
export const BACKENDS: {
  name: BackendName
  start(folder: string): Promise<Partial<PrivateServer> & { url: string }>
}[] = [{ name: 'SQLite', start: async (folder) => ({ url: `sqlite:${join(folder, 'chaos.db')}` }) }]
// Redis appends each command to its file before it answers, PostgreSQL each commit to its log: a killed server loses nothing.
if (await redisProgram()) BACKENDS.push({ name: 'Redis', start: () => startRedis() })
if (await postgresProgram()) BACKENDS.push({ name: 'PostgreSQL', start: () => startPostgres() })

/** Silence after which a node is taken for dead, in ms (docs/contract.md). */
export const HEARTBEAT_TTL = 5000

export interface ClusterOptions extends NodeOptions {
  sdk: Sdk
  backend: string
}

export class Node extends Child {
  /** Process ids that ended without a chance to finish what they had begun. */
  readonly killed = new Set<number>()

  constructor(
    readonly origin: string,
    private readonly ledger: string,
    private readonly options: ClusterOptions,
  ) {
    super('chaos/node.ts')
  }

  async start(): Promise<void> {
    const { sdk, backend, ...options } = this.options
    await this.spawn([sdk, backend, new URL(this.origin).port, this.ledger, JSON.stringify(options)])
  }

  override async kill(): Promise<void> {
    if (this.pid !== undefined) this.killed.add(this.pid)
    await super.kill()
  }
}

export class Cluster {
  #ledger: string
  #folder: string

  private constructor(
    readonly nodes: readonly Node[],
    readonly backend: Partial<PrivateServer> & { url: string },
    folder: string,
  ) {
    this.#folder = folder
    this.#ledger = join(folder, 'ledger')
  }

  /** Whoever starts one stops it. */
  static async start(
    { start }: (typeof BACKENDS)[number],
    options: Omit<ClusterOptions, 'backend'>,
    size = 3,
  ): Promise<Cluster> {
    const folder = scratch()
    const backend = await start(folder)
    const ports = await freePorts(size)
    const nodes = ports.map(
      (port) => new Node(`http://127.0.0.1:${port}`, join(folder, 'ledger'), { ...options, backend: backend.url }),
    )
    const cluster = new Cluster(nodes, backend, folder)
    try {
      // the first one alone, because it may have tables to make
      for (const node of nodes) await node.start()
    } catch (error) {
      await cluster.stop()
      throw error
    }
    return cluster
  }

  /** Each run of a tool on any node, in order. */
  runs(): Run[] {
    const lines = readFileSync(this.#ledger, { encoding: 'utf8', flag: 'a+' }).split('\n')
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Run)
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()))
    await this.backend.stop?.()
    discard(this.#folder)
  }
}
