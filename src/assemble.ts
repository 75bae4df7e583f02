/** Puts the rooms of one node together, for handler and transport alike. */
import type { Backend } from './backend/backend.js'
import { type BoundedBackend, bounded } from './backend/bounded.js'
import { sealed } from './backend/sealed.js'
import { Cluster } from './cluster/cluster.js'
import type { ResolvedOptions } from './options.js'
import { withFinalDeletes } from './session/final-deletes.js'
import type { ServerFactory } from './session/session.js'
import { Sessions } from './session/sessions.js'
import { Streams } from './stream/streams.js'

export interface Assembly {
  readonly backend: BoundedBackend
  readonly cluster: Cluster
  readonly streams: Streams
  readonly sessions: Sessions
  /** Ends all of it but the backend. */
  close(): Promise<void>
}

/** The use of a node, until it is released. */
export interface NodeLease {
  cluster: Cluster
  /** Whether the node ends when it is released. */
  readonly isLast: boolean
  release(): Promise<void>
}

type LeaseNode = (backend: BoundedBackend, onerror: (error: Error) => void) => NodeLease

/** @param lease Gives the node to be part of; default: a new one. */
export function assemble(factory: ServerFactory, options: ResolvedOptions, lease: LeaseNode = newNode): Assembly {
  const { keyring, onerror } = options
  // What is in this process's memory alone needs no encryption.
  const stored = options.backend && sealed(options.backend, keyring, onerror)
  const given = bounded(stored, options.backendTimeout, onerror)
  const node = lease(given, options.onerror)
  const { cluster } = node
  const backend = withFinalDeletes(given, cluster.deleted, options.onerror)
  const streams = new Streams(cluster, backend, options)
  const sessions = new Sessions(factory, backend, cluster, streams, options)
  const close = async () => {
    await sessions.close(node.isLast)
    // Nobody who closes needs to wait until the last client has taken what it was told.
    void streams.close()
    await node.release()
  }
  return { backend, cluster, streams, sessions, close }
}

function newNode(backend: BoundedBackend, onerror: (error: Error) => void): NodeLease {
  const cluster = new Cluster(backend, onerror)
  return { cluster, isLast: true, release: () => cluster.close() }
}

const sharedNodes = new WeakMap<Backend, { cluster: Cluster; users: number }>()

/** All that share a backend in this process through this function are one node. */
export function sharedNode(given: Backend | undefined): LeaseNode {
  if (!given) return newNode
  return (backend, onerror) => {
    const shared = sharedNodes.get(given) ?? { cluster: newNode(backend, onerror).cluster, users: 0 }
    sharedNodes.set(given, shared)
    shared.users++
    const release = async () => {
      if (--shared.users > 0) return
      sharedNodes.delete(given)
      await shared.cluster.close()
    }
    return {
      cluster: shared.cluster,
      get isLast() {
        return shared.users === 1
      },
      release,
    }
  }
}
