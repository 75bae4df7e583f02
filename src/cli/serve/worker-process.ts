/** A worker of `serve --workers`, in its own process: a node that does what its parent says. */
import cluster from 'node:cluster'
import type { BackendUrl } from '../backend/backend-url.js'
import { lazyBackend } from '../backend/open-backend.js'
import { CommandError } from '../command-error.js'
import { type HttpServer, type HttpServerOptions, type Log, startHttpServer } from './http-server.js'
import { type DrainOrder, WORKER_PORT, type WorkerOrder, type WorkerReport } from './worker-messages.js'

/**
 * How long a worker that has stopped listening serves on before it refuses requests, in ms: a connection that it accepted
 * last may not have sent its first request yet.
 */
const LAST_REQUESTS = 100

export function isWorker(): boolean {
  return cluster.isWorker && process.env[WORKER_PORT] !== undefined
}

/** Serves until it is told to drain. When the parent dies, node:cluster ends this process, which kills its children then. */
export async function runWorker(options: HttpServerOptions, url: BackendUrl, log: Log): Promise<void> {
  // A terminal and most service managers signal all processes of a group: the parent decides what a signal means.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => {})
  let server: HttpServer | undefined
  let leaving = false
  const drainOrder = orders(() => {
    leaving = true
    if (server) server.leaving = true
  })
  try {
    // Not checked: a worker started while the backend is away answers 503 until it is back.
    const backend = await lazyBackend(url)
    server = await startHttpServer({ ...options, port: Number(process.env[WORKER_PORT]) }, backend, log)
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    await report({ kind: 'failed', why: error.message })
    return
  }
  server.leaving = leaving
  try {
    await report({ kind: 'ready', nodeId: server.nodeId })
    const { alone, timeout } = await drainOrder
    if (!alone) server.stopListening()
    await server.drain({ notice: alone ? 0 : LAST_REQUESTS, timeout })
  } finally {
    await server.close()
  }
}

/** Calls `leave` at each order of the parent, and resolves with the order to drain. */
function orders(leave: () => void): Promise<DrainOrder> {
  return new Promise((resolve) => {
    process.on('message', (order: WorkerOrder) => {
      leave()
      if (order.kind === 'drain') resolve(order)
    })
  })
}

/** Resolves when the message was handed to the channel: a process that ended sooner would lose it. */
async function report(message: WorkerReport): Promise<void> {
  await new Promise<void>((resolve) => process.send?.(message, () => resolve()))
}
