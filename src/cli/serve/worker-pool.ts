/** The parent of `serve --workers`: starts its workers, replaces those that end, and drains them. */
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { DrainOptions } from '../../handler.js'
import { CommandError } from '../command-error.js'
import type { Log } from './http-server.js'
import { type DrainOrder, WORKER_PORT, type WorkerOrder, type WorkerReport } from './worker-messages.js'

/** A worker that ends sooner than this after it was ready, or before, has ended early. In ms. */
const EARLY = 2_000
/** After this many early ends in succession in one slot the pool gives up. */
const MAX_EARLY_ENDS = 6
/** How long to wait before the next worker after the second early end, in ms; doubled by each one that follows. */
const BACKOFF = 200
/** How long a worker may take to end when the time for its calls is over, before it is killed. In ms. */
const GRACE = 10_000

/** The place of one worker, and of its successors. */
interface Slot {
  worker: Worker | undefined
  /** When that worker became ready. */
  readyAt: number | undefined
  /** Whether any worker of this slot has been ready. */
  wasReady: boolean
  /** Workers in succession that ended early. */
  earlyEnds: number
  restart?: NodeJS.Timeout
}

/**
 * The workers accept connections from one listening socket that they share (cluster's SCHED_NONE). With cluster's round
 * robin the parent would accept them and hand them over, and a connection on its way to a worker that is killed would hang
 * until its client gives up. With the shared socket a worker that is stuck accepts none, and what nobody has accepted waits
 * for the next one that is free. The price: under little load connections are spread unevenly.
 */
export class WorkerPool {
  readonly #slots: Slot[]
  #draining = false
  #allReady!: () => void
  #giveUp!: (error: CommandError) => void
  /** Rejects when there is no use in starting more workers. */
  readonly #givenUp: Promise<never>

  constructor(
    count: number,
    private readonly options: { port: number; log: Log },
  ) {
    this.#slots = Array.from({ length: count }, () => ({
      worker: undefined,
      readyAt: undefined,
      wasReady: false,
      earlyEnds: 0,
    }))
    this.#givenUp = new Promise((_, reject) => {
      this.#giveUp = reject
    })
    this.#givenUp.catch(() => {})
  }

  /**
   * Keeps the workers running until `stop` resolves, and resolves when all have drained.
   *
   * @param ready Called once, when each slot has had a worker that was ready.
   * @throws CommandError if workers keep ending early, or one says that it cannot serve; the others are drained first.
   */
  async run(stop: Promise<Required<DrainOptions>>, ready: () => void): Promise<void> {
    if (cluster.isWorker) {
      throw new CommandError('this process is a worker of a process manager already: leave out --workers', 2)
    }
    cluster.schedulingPolicy = cluster.SCHED_NONE
    this.#allReady = ready
    for (const slot of this.#slots) this.#start(slot)
    try {
      await this.#drain(await Promise.race([stop, this.#givenUp]))
    } catch (error) {
      await this.#drain({ notice: 0, timeout: 0 })
      throw error
    }
  }

  #start(slot: Slot): void {
    const worker = cluster.fork({ [WORKER_PORT]: String(this.options.port) })
    slot.worker = worker
    slot.readyAt = undefined
    worker.on('message', (report: WorkerReport) => {
      if (report.kind === 'failed') this.#giveUp(new CommandError(report.why))
      else this.#ready(slot, report)
    })
    // Without a listener a broken channel would end this process. The worker's `exit` follows.
    worker.on('error', () => {})
    worker.on('exit', (code, signal) => this.#ended(slot, worker, signal ?? `exit code ${code}`))
  }

  #ready(slot: Slot, { nodeId }: Extract<WorkerReport, { kind: 'ready' }>): void {
    const { wasReady, worker } = slot
    slot.readyAt = performance.now()
    slot.wasReady = true
    if (wasReady) this.options.log(`mcp-roam: worker ${worker?.process.pid} is ready, node ${nodeId}`)
    else if (this.#slots.every((other) => other.wasReady)) this.#allReady()
  }

  #ended(slot: Slot, worker: Worker, how: string): void {
    slot.worker = undefined
    if (this.#draining) return
    const lived = slot.readyAt === undefined ? 0 : performance.now() - slot.readyAt
    slot.earlyEnds = lived < EARLY ? slot.earlyEnds + 1 : 0
    if (slot.earlyEnds === MAX_EARLY_ENDS) {
      this.#giveUp(new CommandError(`gave up: workers keep ending as soon as they are started (the last one: ${how})`))
      return
    }
    const wait = slot.earlyEnds < 2 ? 0 : BACKOFF * 2 ** (slot.earlyEnds - 2)
    const when = wait === 0 ? '' : ` in ${wait / 1_000} s`
    this.options.log(`mcp-roam: worker ${worker.process.pid} ended (${how}); starting another one${when}`)
    slot.restart = setTimeout(() => this.#start(slot), wait)
  }

  /**
   * Drains all workers but one at the same time, and then the last one, which serves the clients of the others meanwhile:
   * all at once would leave nobody to serve, one after the other would take the time of each. The last one accepts
   * connections to the end, because answers that its calls wait for may come on new ones. This takes `notice` and twice
   * `timeout` at most, and the time that workers need to end.
   */
  async #drain({ notice, timeout }: Required<DrainOptions>): Promise<void> {
    this.#draining = true
    for (const { restart } of this.#slots) clearTimeout(restart)
    for (const worker of this.#workers()) send(worker, { kind: 'leave' })
    await delay(notice)
    const [last, ...others] = this.#workers()
    await Promise.all(others.map((worker) => drain(worker, { kind: 'drain', alone: false, timeout })))
    if (last) await drain(last, { kind: 'drain', alone: true, timeout })
  }

  /** The workers that run, those that are ready first. */
  #workers(): Worker[] {
    const slots = [...this.#slots].sort((a, b) => Number(b.readyAt ?? 0) - Number(a.readyAt ?? 0))
    return slots.flatMap(({ worker }) => worker ?? [])
  }
}

/** Resolves when the worker has ended; one that takes too long is killed. */
async function drain(worker: Worker, order: DrainOrder): Promise<void> {
  if (worker.isDead()) return
  const exit = once(worker, 'exit')
  send(worker, order)
  const timer = setTimeout(() => worker.process.kill('SIGKILL'), order.timeout + GRACE)
  await exit
  clearTimeout(timer)
}

function send(worker: Worker, order: WorkerOrder): void {
  if (worker.isConnected()) worker.send(order, () => {})
}
