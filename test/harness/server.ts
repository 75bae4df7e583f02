/** Fixture servers as processes of their own. */
import type { DrainOptions, NodeStatus, SessionHandlerOptions } from '../../src/index.js'
import type { Ready, Stats } from '../fixtures/serve.js'
import { Child } from './child.js'

export type Sdk = 'v1' | 'v2'
export const SDKS: readonly Sdk[] = ['v1', 'v2']

export interface ServerOptions {
  sdk: Sdk
  /** `memory` (default), `sqlite:<file>`, `redis://…`, `redis-cluster:<host>:<port>,…` or `postgres://…`. */
  backend?: string
  /** Prefix of the keys in Redis, schema in PostgreSQL. */
  namespace?: string
  /** Evict every instance after every exchange. */
  amnesia?: boolean
  /** More options of the handler, as far as they are JSON. */
  options?: Partial<SessionHandlerOptions>
  /** How it drains at SIGTERM. */
  drain?: DrainOptions
}

export class TestServer extends Child {
  /** The MCP endpoint. */
  url = ''

  constructor(private readonly options: ServerOptions) {
    super('fixtures/serve.ts')
  }

  /** Resolves when it serves. */
  async start(): Promise<void> {
    const { sdk, backend = 'memory', namespace, amnesia = false, options = {}, drain = {} } = this.options
    const port = this.url === '' ? '0' : new URL(this.url).port
    const args = ['--sdk', sdk, '--backend', backend, '--port', port, '--options', JSON.stringify(options)]
    args.push('--drain', JSON.stringify(drain))
    if (namespace !== undefined) args.push('--namespace', namespace)
    if (amnesia) args.push('--amnesia')
    this.url = (JSON.parse(await this.spawn(args)) as Ready).url
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

  /** Killed, if it still runs, and started again on the same port. */
  async restart(): Promise<void> {
    await this.kill()
    await this.start()
  }

  async #tell(path: string): Promise<string> {
    const response = await fetch(new URL(path, this.url), { method: 'POST' })
    const text = await response.text()
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`)
    return text
  }
}

/** A fixture server in a process of its own; a restart uses its port again. Whoever starts one ends it, with `kill` or `terminate`. */
export async function startServer(options: ServerOptions): Promise<TestServer> {
  const server = new TestServer(options)
  await server.start()
  return server
}
