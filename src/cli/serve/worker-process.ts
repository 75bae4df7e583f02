/** A worker of `serve --workers`, as it sees itself: a node that does what its parent says. */
import cluster from 'node:cluster'
import type { BackendUrl } from '../backend/backend-url.js'
import { makeBackend } from '../backend/open-backend.js'
import { Failure } from '../command-error.js'
import { type Service, type ServiceOptions, startService } from './http-server.js'

/** Which port to listen on; and that this process is one of ours, and not the worker of some process manager. */
export const WORKER_PORT = 'MCP_ROAM_WORKER_PORT'

/** What a worker says to its parent. */
export type WorkerReport =
  | { kind: 'ready'; nodeId: string }
  /** It is of no use to start another one. */
  | { kind: 'failed'; why: string }

/** What the parent says to a worker. */
export type WorkerOrder =
  /** Nobody should be sent here any more. */
  | { kind: 'leave' }
  /** Finish, and end. `alone`: nobody else takes the connections of this port any more. */
  | { kind: 'drain'; alone: boolean; timeout: number }

/** How long requests on connections that a worker has just taken are still served, in ms. */
const LAST_REQUESTS = 100

export function isWorker(): boolean {
  return cluster.isWorker && process.env[WORKER_PORT] !== undefined
}

/**
 * Serves until it is told to drain. When the parent dies this process ends, too (cluster's own doing), and with it its
 * children.
 */
export async function work(options: ServiceOptions, url: BackendUrl, log: (line: string) => void): Promise<void> {
  // A terminal and most service managers signal all processes at once; it is for the parent to say what that means.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => {})
  let service: Service | undefined
  let leaving = false
  const leave = () => {
    leaving = true
    if (service) service.leaving = true
  }
  const drain = drainOrder(leave)
  try {
    // Not reached for: a worker that is started while the backend is away says 503, and serves when it is back.
    service = await startService({ ...options, port: Number(process.env[WORKER_PORT]) }, await makeBackend(url), log)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    await report({ kind: 'failed', why: error.message })
    return
  }
  service.leaving = leaving
  try {
    await report({ kind: 'ready', nodeId: service.nodeId })
    const { alone, timeout } = await drain
    if (!alone) service.stopListening()
    await service.drain({ notice: alone ? 0 : LAST_REQUESTS, timeout })
  } finally {
    await service.close()
  }
}

function drainOrder(leave: () => void): Promise<Extract<WorkerOrder, { kind: 'drain' }>> {
  return new Promise((resolve) => {
    process.on('message', (order: WorkerOrder) => {
      leave()
      if (order.kind === 'drain') resolve(order)
    })
  })
}

/** Resolves when it is on its way. */
async function report(message: WorkerReport): Promise<void> {
  await new Promise<void>((resolve) => process.send?.(message, () => resolve()))
}
