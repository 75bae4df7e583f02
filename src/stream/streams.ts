/** The streams of a node: what it writes, what is followed here, and what it takes over from nodes that are gone. */
import type { BoundedBackend } from '../backend/bounded.js'
import type { Cluster } from '../cluster/cluster.js'
import { within } from '../util/within.js'
import { Connections, type ConnectionsOptions } from './connections.js'
import { OpenConnections, type OpenConnectionsOptions } from './open-connections.js'
import { Polling } from './polling.js'
import { Takeover } from './takeover.js'
import { Writers, type WritersOptions } from './writers.js'

/** How long a node that ends waits for the log, in ms. */
const RECORD_PATIENCE = 1000

export type StreamsOptions = Omit<ConnectionsOptions, 'sealed'> &
  WritersOptions &
  Pick<OpenConnectionsOptions, 'keepAlive'>

export class Streams {
  readonly open: OpenConnections
  readonly writers: Writers
  readonly takeover: Takeover
  readonly connections: Connections

  constructor(
    cluster: Cluster,
    { events, shared, sealed = false }: Pick<BoundedBackend, 'events' | 'shared' | 'sealed'>,
    options: StreamsOptions,
  ) {
    const polling = shared ? new Polling(events, (stream) => this.writers.writes(stream)) : undefined
    this.open = new OpenConnections({ keepAlive: options.keepAlive, ...(polling && { polling }) })
    this.writers = new Writers(cluster, events, this.open, options)
    this.takeover = new Takeover(cluster.node, events, this.writers, options.onerror)
    this.connections = new Connections(cluster, events, this.open, this.takeover, { ...options, sealed })
  }

  /** Resolves when the log knows how far this node has sent the standalone streams, or after a moment. Never rejects. */
  async recorded(): Promise<void> {
    await within(RECORD_PATIENCE, this.connections.recorded()).catch(() => {})
  }

  /** Breaks all connections off, telling the clients when to come back. Resolves when the last one is gone. */
  close(): Promise<void> {
    this.takeover.close()
    this.writers.close()
    return this.connections.close()
  }
}
