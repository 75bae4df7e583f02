/** What handler and transport share: the rooms of a node, put together from the options. */
import type { Backend } from './backend/backend.js'
import { type BoundedBackend, bounded } from './backend/bounded.js'
import { ClusterNode } from './cluster/node.js'
import type { SessionHandlerOptions } from './options.js'
import type { ServerFactory } from './session/session.js'
import { DEFAULT_SESSION_ID_GENERATOR, Sessions } from './session/sessions.js'
import { Streams } from './stream/streams.js'

export interface Core {
  backend: BoundedBackend
  node: ClusterNode
  streams: Streams
  sessions: Sessions
  /** Ends all of it but the backend. */
  close(): Promise<void>
}

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE

/** @param nodeOf Gives the node to be part of; default: a new one. */
export function createCore(
  factory: ServerFactory,
  options: SessionHandlerOptions,
  nodeOf: (backend: BoundedBackend, onerror: (error: Error) => void) => NodeLease = newNode,
): Core {
  checkOptions(options)
  const onerror = (error: Error) => options.onerror?.(error)
  const backend = bounded(options.backend, options.backendTimeout ?? 5000, onerror)
  const { node, release } = nodeOf(backend, onerror)
  const streams = new Streams(node, backend, {
    keepAlive: options.keepAlive ?? 15_000,
    retryInterval: options.retryInterval ?? 1000,
    maxBuffered: options.maxBuffered ?? 1024 * 1024,
    onerror,
  })
  const sessions = new Sessions(factory, backend, node, streams, {
    idleTtl: options.idleTtl ?? 7 * DAY,
    maxAge: options.maxAge,
    sessionIdGenerator: options.sessionIdGenerator ?? DEFAULT_SESSION_ID_GENERATOR,
    responseMode: options.responseMode ?? 'auto',
    upgradeAfter: options.upgradeAfter ?? 100,
    liveIdle: options.liveIdle ?? 5 * MINUTE,
    maxLiveSessions: options.maxLiveSessions ?? 10_000,
    mayRepeat: options.mayRepeat,
    hooks: options,
    onerror,
  })
  const close = async () => {
    await sessions.close()
    streams.close()
    await release()
  }
  return { backend, node, streams, sessions, close }
}

/** The use of a node, until it is released. */
export interface NodeLease {
  node: ClusterNode
  release(): Promise<void>
}

function newNode(backend: BoundedBackend, onerror: (error: Error) => void): NodeLease {
  const node = new ClusterNode(backend.bus, backend.shared, onerror)
  return { node, release: () => node.close() }
}

const sharedNodes = new WeakMap<Backend, { node: ClusterNode; users: number }>()

/** All that share a backend in this process through this function are one node. */
export function sharedNode(given: Backend | undefined): typeof newNode {
  if (!given) return newNode
  return (backend, onerror) => {
    const shared = sharedNodes.get(given) ?? { node: newNode(backend, onerror).node, users: 0 }
    sharedNodes.set(given, shared)
    shared.users++
    const release = async () => {
      if (--shared.users > 0) return
      sharedNodes.delete(given)
      await shared.node.close()
    }
    return { node: shared.node, release }
  }
}

/** Smallest value of each option that is a number. */
const NUMBERS: [keyof SessionHandlerOptions, number][] = [
  ['idleTtl', 1],
  ['maxAge', 1],
  ['backendTimeout', 1],
  ['liveIdle', 0],
  ['maxLiveSessions', 1],
  ['upgradeAfter', 0],
  ['keepAlive', 0],
  ['retryInterval', 0],
  ['maxBuffered', 1],
  ['maxBodySize', 1],
]

function checkOptions(options: SessionHandlerOptions): void {
  for (const [name, least] of NUMBERS) {
    const value = options[name]
    if (value === undefined) continue
    if (typeof value !== 'number' || Number.isNaN(value) || value < least) {
      throw new TypeError(`${name} must be a number of at least ${least}, not ${String(value)}`)
    }
  }
  const { responseMode, backend } = options
  if (responseMode !== undefined && !['auto', 'sse', 'json'].includes(responseMode)) {
    throw new TypeError(`responseMode must be 'auto', 'sse' or 'json', not ${String(responseMode)}`)
  }
  if (backend !== undefined && typeof backend.sessions?.load !== 'function') {
    throw new TypeError("backend must be a backend, e.g. sqlite({ file: 'sessions.db' }), or { sessions: yourStore }")
  }
}
