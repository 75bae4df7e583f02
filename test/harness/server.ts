/** Fixture servers as processes of their own, to be killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { NodeStatus } from '../../src/handler.js'
import type { SessionHandlerOptions } from '../../src/index.js'
import type { Ready, Stats } from '../fixtures/serve.js'
import { fixtureProgram } from './program.js'
import { Recorder } from './recorder.js'
import { within } from './within.js'

export type Sdk = 'v1' | 'v2'
export const SDKS: readonly Sdk[] = ['v1', 'v2']

export interface ServerOptions {
  sdk: Sdk
  /** `memory` (default), `sqlite:<file>`, `redis://…`, `redis-cluster:<host>:<port>,…` or `postgres://…`. */
  backend?: string
  /** Prefix of the keys in Redis, schema in PostgreSQL. */
  namespace?: string
  /** Default: any free one; a restart uses the same again. */
  port?: number
  /** Evict every instance after every exchange. */
  amnesia?: boolean
  /** More options of the handler, as far as they are JSON. */
  options?: Partial<SessionHandlerOptions>
}

export class TestServer {
  /** The MCP endpoint. */
  url = ''
  /** Lines it wrote to stderr, in all its lives, and how each ended. */
  readonly lines = new Recorder<string>()
  #child: ChildProcess | undefined

  constructor(private readonly options: ServerOptions) {}

  get log(): string {
    return this.lines.all.join('\n')
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Resolves when it serves. */
  async start(): Promise<void> {
    const { sdk, backend = 'memory', namespace, amnesia = false, options = {} } = this.options
    const port = this.url === '' ? (this.options.port ?? 0) : new URL(this.url).port
    const args = ['--sdk', sdk, '--backend', backend, '--port', String(port), '--options', JSON.stringify(options)]
    if (namespace !== undefined) args.push('--namespace', namespace)
    if (amnesia) args.push('--amnesia')
    // The tether is the child's stdin: it closes with this process, whatever ends it.
    const child = spawn(process.execPath, [await fixtureProgram(), '--tether', ...args])
    this.#child = child
    createInterface({ input: child.stderr }).on('line', (line) => this.lines.add(line))
    const ended = once(child, 'exit').then(([code, signal]) => {
      this.lines.add(`[${child.pid} ended: ${signal ?? code}]`)
      if (this.#child === child) this.#child = undefined
      throw new Error(`the server ended: ${signal ?? code}`)
    })
    const ready = once(createInterface({ input: child.stdout }), 'line').then(([line]) => JSON.parse(line) as Ready)
    ended.catch(() => {})
    ready.catch(() => {})
    try {
      this.url = (await within(Promise.race([ready, ended]), 'a server that is ready', 20_000)).url
    } catch (error) {
      child.kill('SIGKILL')
      throw new Error(`${error}\n${this.log}`)
    }
  }

  /** How many server instances it has built in this life. */
  async stats(): Promise<Stats> {
    return (await (await fetch(new URL('/stats', this.url))).json()) as Stats
  }

  /** The host program says that a resource was updated. */
  async notify(uri: string): Promise<void> {
    await this.#tell(`/notify?uri=${encodeURIComponent(uri)}`)
  }

  /** The host program says that a list has changed. */
  async notifyList(list: 'tools' | 'prompts' | 'resources'): Promise<void> {
    await this.#tell(`/notify?list=${list}`)
  }

  /** The host program sends a log message to one session; false: there is no such session. */
  async notifySession(session: string, text: string): Promise<boolean> {
    return (await this.#tell(`/notify?${new URLSearchParams({ session, text })}`)) === 'true'
  }

  async status(): Promise<NodeStatus> {
    return (await (await fetch(new URL('/status', this.url))).json()) as NodeStatus
  }

  /** Whether every message that it has for other nodes gets lost from now on. */
  async loseMessages(lose: boolean): Promise<void> {
    await this.#tell(`/bus?lose=${lose ? 'yes' : 'no'}`)
  }

  /** Whether restores wait from now on; each says `restore held`. */
  async holdRestores(hold: boolean): Promise<void> {
    await this.#tell(`/restores?hold=${hold ? 'yes' : 'no'}`)
  }

  /** Freezes it: connections stay open, nothing answers. */
  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  /** SIGKILL; resolves when it is dead. */
  kill(): Promise<void> {
    return this.#end('SIGKILL')
  }

  /** SIGTERM; resolves when it has drained and ended. */
  terminate(): Promise<void> {
    return this.#end('SIGTERM')
  }

  /** Killed, if it still runs, and started again on the same port. */
  async restart(): Promise<void> {
    await this.kill()
    await this.start()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }

  async #tell(path: string): Promise<string> {
    const response = await fetch(new URL(path, this.url), { method: 'POST' })
    const text = await response.text()
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`)
    return text
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (!child) return
    const exit = once(child, 'exit')
    child.kill(signal)
    try {
      await within(exit, `the end of a server after ${signal}\n${this.log}`)
    } finally {
      child.kill('SIGKILL')
    }
  }
}

/** A fixture server in a process of its own. Whoever starts one ends it, with `kill` or `terminate`. */
export async function startServer(options: ServerOptions): Promise<TestServer> {
  const server = new TestServer(options)
  await server.start()
  return server
}
