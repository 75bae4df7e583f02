/** The process under fuzz, as the fuzz sees it. */
import http from 'node:http'
import { Child } from '../harness/child.js'
import type { Sdk } from '../harness/server.js'
import type { Weight } from './node.js'
import type { StoreAddress } from './store.js'

export class Target extends Child {
  port = 0
  /** Connections are kept, as clients do. */
  readonly agent = new http.Agent({ keepAlive: true, maxSockets: 64 })

  constructor(
    readonly sdk: Sdk,
    readonly store: StoreAddress,
  ) {
    super('fuzz/node.ts')
  }

  async start(): Promise<void> {
    // A leak of a few hundred bytes an exchange ends a process with so small a heap before a million are over.
    const flags = ['--expose-gc', '--max-old-space-size=256']
    this.port = Number(await this.spawn([this.sdk, JSON.stringify(this.store)], flags))
  }

  /** Whether it has ended, by itself. */
  get dead(): boolean {
    return this.pid === undefined
  }

  async weigh(): Promise<Weight> {
    const response = await fetch(`http://127.0.0.1:${this.port}/weigh`)
    return (await response.json()) as Weight
  }

  async stop(): Promise<void> {
    this.agent.destroy()
    await this.kill()
  }
}
