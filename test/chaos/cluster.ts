/** Real nodes as processes, to be killed, paused, drained and started again; all on one backend. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Sdk } from '../harness/server.js'
import { within } from '../harness/within.js'
import { discard, freePorts, type PrivateServer, removeAtExit, scratch } from '../services/children.js'
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
if (await redisProgram()) BACKENDS.push({ name: 'Redis', start: startRedis })
if (await postgresProgram()) BACKENDS.push({ name: 'PostgreSQL', start: startPostgres })

const FOLDER = fileURLToPath(new URL(`../../node_modules/.cache/chaos-${process.pid}`, import.meta.url))
let compiled: Promise<string> | undefined

/** Compiled, because a node starts three times as fast as through a loader. */
function program(): Promise<string> {
  compiled ??= compile()
  return compiled
}

async function compile(): Promise<string> {
  removeAtExit(FOLDER)
  await build({
    entryPoints: [fileURLToPath(new URL('node.ts', import.meta.url))],
    outdir: FOLDER,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    packages: 'external',
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    logLevel: 'silent',
  })
  return `${FOLDER}/node.mjs`
}

export interface ClusterOptions extends NodeOptions {
  sdk: Sdk
  backend: string
}

export class Node {
  /** What it wrote to stderr, in all its lives. */
  readonly log: string[] = []
  /** Process ids that ended without a chance to finish what they had begun. */
  readonly killed = new Set<number>()
  #child: ChildProcess | undefined
  #paused = false

  constructor(
    readonly origin: string,
    private readonly ledger: string,
    private readonly options: ClusterOptions,
  ) {}

  get pid(): number | undefined {
    return this.#child?.pid
  }

  get paused(): boolean {
    return this.#paused
  }

  async start(): Promise<void> {
    const { sdk, backend, ...options } = this.options
    const args = [sdk, backend, new URL(this.origin).port, this.ledger, JSON.stringify(options)]
    const child = spawn(process.execPath, [await program(), ...args])
    this.#child = child
    createInterface({ input: child.stderr }).on('line', (line) => this.log.push(line))
    const ended = once(child, 'exit').then(() => {
      if (this.#child === child) this.#child = undefined
      throw new Error(`a node ended: ${this.log.slice(-5).join('\n')}`)
    })
    ended.catch(() => {})
    const ready = once(createInterface({ input: child.stdout }), 'line')
    ready.catch(() => {})
    await within(Promise.race([ready, ended]), 'a node that is ready', 30_000)
  }

  /** SIGKILL; resolves when it is dead. */
  async kill(): Promise<void> {
    if (this.#child?.pid !== undefined) this.killed.add(this.#child.pid)
    await this.#end('SIGKILL')
  }

  /** SIGTERM; resolves when it has drained and ended. */
  drain(): Promise<void> {
    return this.#end('SIGTERM')
  }

  /** SIGSTOP: connections stay open, nothing answers. */
  pause(): void {
    this.#paused = true
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#paused = false
    this.#child?.kill('SIGCONT')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (!child) return
    const exit = once(child, 'exit')
    child.kill(signal)
    try {
      await within(exit, `the end of a node after ${signal}: ${this.log.slice(-5).join('\n')}`, 30_000)
    } finally {
      child.kill('SIGKILL')
    }
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
