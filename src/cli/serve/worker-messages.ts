/** What the parent of `serve --workers` and its workers tell each other. */

/**
 * The variable in which the parent names the port to listen on. It also tells a worker from a process that a process
 * manager started with node:cluster, which is a cluster worker, too.
 */
export const WORKER_PORT = 'MCP_ROAM_WORKER_PORT'

/** From a worker to its parent. */
export type WorkerReport =
  | { kind: 'ready'; nodeId: string }
  /** It cannot serve, and neither could another worker. */
  | { kind: 'failed'; why: string }

/** From the parent to a worker. */
export type WorkerOrder =
  /** Tell load balancers and clients to go elsewhere, and serve on. */
  | { kind: 'leave' }
  /** Finish and end. `alone`: no other worker accepts connections any more. `timeout`: for running calls, in ms. */
  | DrainOrder

export type DrainOrder = { kind: 'drain'; alone: boolean; timeout: number }
