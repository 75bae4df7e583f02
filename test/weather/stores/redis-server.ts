/** A Redis process of its own, of any role: what sentinels and clusters are made of. */
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { binary } from '../../services/binaries.js'
import { Child, discard, scratch, untilReady } from '../../services/children.js'

export class RedisServer {
  #folder = scratch()
  #child: Child | undefined

  constructor(
    readonly port: number,
    private readonly args: (folder: string) => string[],
  ) {}

  /** Also after it was killed. */
  async start(): Promise<void> {
    const log = join(this.#folder, 'log')
    const args = ['--bind', '127.0.0.1', '--port', `${this.port}`, '--dir', this.#folder]
    const own = this.args(this.#folder)
    // a file of settings, if there is one, comes first
    const all = own[0]?.startsWith('/') ? [own[0], ...args, ...own.slice(1)] : [...args, '--save', '', ...own]
    this.#child = new Child(await binary('redis'), all, { log, cwd: this.#folder })
    await untilReady(this.#child, log, () =>
      this.call('PING').then(
        () => true,
        () => false,
      ),
    )
  }

  /** One command, on a connection of its own. */
  async call(command: string, ...args: (string | number)[]): Promise<unknown> {
    const options = { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0, commandTimeout: 1000 }
    const client = new Redis(this.port, '127.0.0.1', options)
    client.on('error', () => {})
    try {
      await client.connect()
      return await client.call(command, ...args)
    } finally {
      client.disconnect()
    }
  }

  async isPrimary(): Promise<boolean> {
    const role = (await this.call('ROLE').catch(() => [])) as unknown[]
    return role[0] === 'master'
  }

  pause(): void {
    this.#child?.pause()
  }

  resume(): void {
    this.#child?.resume()
  }

  async kill(): Promise<void> {
    await this.#child?.kill()
  }

  async stop(): Promise<void> {
    await this.#child?.stop()
    discard(this.#folder)
  }
}
