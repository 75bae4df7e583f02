/** Three nodes on one store, each a process with its own ways to the store's servers. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Run } from '../chaos/tools.js'
import { Child } from '../harness/child.js'
import type { Sdk } from '../harness/server.js'
import { discard, freePorts, scratch } from '../services/children.js'
import { Link } from './link.js'
import type { Store } from './store.js'

/** Of all nodes that run. One that was frozen would not notice that we are gone. */
const pids = new Set<number>()
process.once('exit', () => {
  for (const pid of pids) process.kill(pid, 'SIGKILL')
})

export class Node extends Child {
  constructor(
    readonly origin: string,
    /** Its ways to the store's servers, in the order of the store's ports. */
    readonly links: readonly Link[],
    private readonly args: { sdk: Sdk; ledger: string; store: Store },
  ) {
    super('weather/node.ts')
  }

  async start(): Promise<void> {
    const { sdk, ledger, store } = this.args
    const address = JSON.stringify(store.address(this.links.map(({ port }) => port)))
    await this.spawn([sdk, new URL(this.origin).port, ledger, address])
    if (this.pid) pids.add(this.pid)
  }

  override async kill(): Promise<void> {
    const { pid } = this
    await super.kill()
    if (pid) pids.delete(pid)
  }

  override async terminate(): Promise<void> {
    const { pid } = this
    await super.terminate()
    if (pid) pids.delete(pid)
  }
}

export class Nodes {
  private constructor(
    readonly all: readonly Node[],
    private readonly folder: string,
  ) {}

  /** Whoever starts them stops them. */
  static async start(store: Store, sdk: Sdk, size = 3): Promise<Nodes> {
    const folder = scratch()
    const all: Node[] = []
    for (const port of await freePorts(size)) {
      const links = await Promise.all(store.ports.map((target) => Link.start(target)))
      all.push(new Node(`http://127.0.0.1:${port}`, links, { sdk, store, ledger: join(folder, 'ledger') }))
    }
    const nodes = new Nodes(all, folder)
    try {
      // the first one alone, because it may have tables to make
      for (const node of all) await node.start()
    } catch (error) {
      await nodes.stop()
      throw error
    }
    return nodes
  }

  /** Each run of a tool on any node, in order. */
  runs(): Run[] {
    const lines = readFileSync(join(this.folder, 'ledger'), { encoding: 'utf8', flag: 'a+' }).split('\n')
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Run)
  }

  async stop(): Promise<void> {
    await Promise.all(this.all.map((node) => node.kill()))
    for (const { links } of this.all) for (const link of links) link.close()
    discard(this.folder)
  }
}
