/** `serve --workers`: several processes behind one port, and what the process does that started them. */
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../command-error.js'
import { WORKER_PORT, type WorkerOrder, type WorkerReport } from './worker-process.js'

/** What happens after a signal to stop; in ms. */
export interface Drain {
  notice: number
  timeout: number
}

/** A worker that ends sooner than this after it was ready has died at once, in ms. */
const AT_ONCE = 2_000
/** How often in succession a place may have its worker die at once. */
const MAX_DEATHS = 6
/** How long to wait before the next one after the first such death, in ms; twice as long after each more. */
const BACKOFF = 200
/** How long a worker may take to end when its calls have had their time, in ms. */
const GRACE = 10_000

/** Where one worker is, and after it another one. */
interface Place {
  worker: Worker | undefined
  /** When that worker became ready. */
  readyAt: number | undefined
  /** Whether one has ever been ready here. */
  used: boolean
  /** Workers in succession that died at once. */
  deaths: number
  restart?: NodeJS.Timeout
}

/**
 * Workers take connections straight from one listening socket that they share (cluster's SCHED_NONE). Under cluster's other
 * way, round robin, this process takes them and hands them over, and a connection that is on its way to a worker which is
 * killed hangs until its client gives up. From a shared socket a connection is taken by whoever is free, a stuck worker takes
 * none, and what nobody has taken waits for somebody else. The price is that connections are spread unevenly while there is
 * little to do.
 */
export class Workers {
  readonly #places: Place[]
  #leaving = false
  #allReady!: () => void
  #giveUp!: (failure: Failure) => void
  /** Rejects when there is no use in going on. */
  readonly #trouble: Promise<never>

  constructor(
    count: number,
    private readonly options: { port: number; log: (line: string) => void },
  ) {
    this.#places = Array.from({ length: count }, () => ({
      worker: undefined,
      readyAt: undefined,
      used: false,
      deaths: 0,
    }))
    this.#trouble = new Promise((_, reject) => {
      this.#giveUp = reject
    })
    this.#trouble.catch(() => {})
  }

  /**
   * Keeps workers running until it is told to stop, and resolves when all have drained. Throws a {@link Failure}, the workers
   * being drained, if they keep dying.
   */
  async run(told: Promise<Drain>, ready: () => void): Promise<void> {
    if (cluster.isWorker) {
      throw new Failure('this process is a worker of a process manager already: leave out --workers', 2)
    }
    cluster.schedulingPolicy = cluster.SCHED_NONE
    this.#allReady = ready
    for (const place of this.#places) this.#start(place)
    try {
      await this.#drain(await Promise.race([told, this.#trouble]))
    } catch (error) {
      await this.#drain({ notice: 0, timeout: 0 })
      throw error
    }
  }

  #start(place: Place): void {
    const worker = cluster.fork({ [WORKER_PORT]: String(this.options.port) })
    place.worker = worker
    place.readyAt = undefined
    worker.on('message', (report: WorkerReport) => {
      if (report.kind === 'failed') this.#giveUp(new Failure(report.why))
      else this.#ready(place, report)
    })
    // Its channel may break before its death is known.
    worker.on('error', () => {})
    worker.on('exit', (code, signal) => this.#ended(place, worker, signal ?? `exit code ${code}`))
  }

  #ready(place: Place, { nodeId }: Extract<WorkerReport, { kind: 'ready' }>): void {
    const { used, worker } = place
    place.readyAt = performance.now()
    place.used = true
    if (used) this.options.log(`mcp-roam: worker ${worker?.process.pid} is ready, node ${nodeId}`)
    else if (this.#places.every((other) => other.used)) this.#allReady()
  }

  #ended(place: Place, worker: Worker, how: string): void {
    place.worker = undefined
    if (this.#leaving) return
    const lived = place.readyAt === undefined ? 0 : performance.now() - place.readyAt
    place.deaths = lived < AT_ONCE ? place.deaths + 1 : 0
    if (place.deaths === MAX_DEATHS) {
      this.#giveUp(new Failure(`gave up: workers keep ending as soon as they are started (the last one: ${how})`))
      return
    }
    const wait = place.deaths < 2 ? 0 : BACKOFF * 2 ** (place.deaths - 2)
    const when = wait === 0 ? '' : ` in ${wait / 1_000} s`
    this.options.log(`mcp-roam: worker ${worker.process.pid} ended (${how}); starting another one${when}`)
    place.restart = setTimeout(() => this.#start(place), wait)
  }

  /**
   * One worker goes on until all others are done, so that their clients find somebody to go on with: all at once would leave
   * nobody, one after the other would take each worker's time. It goes on taking connections to the end, because answers that
   * its calls wait for come on new ones. Altogether this takes at most notice and twice timeout.
   */
  async #drain({ notice, timeout }: Drain): Promise<void> {
    this.#leaving = true
    for (const { restart } of this.#places) clearTimeout(restart)
    for (const worker of this.#workers()) tell(worker, { kind: 'leave' })
    await delay(notice)
    const [last, ...others] = this.#workers()
    await Promise.all(others.map((worker) => end(worker, { kind: 'drain', alone: false, timeout })))
    if (last) await end(last, { kind: 'drain', alone: true, timeout })
  }

  /** Those that run; first those that serve. */
  #workers(): Worker[] {
    const places = [...this.#places].sort((a, b) => Number(b.readyAt ?? 0) - Number(a.readyAt ?? 0))
    return places.flatMap(({ worker }) => worker ?? [])
  }
}

/** Resolves when it has ended; one that takes too long is killed. */
async function end(worker: Worker, order: Extract<WorkerOrder, { kind: 'drain' }>): Promise<void> {
  if (worker.isDead()) return
  const exit = once(worker, 'exit')
  tell(worker, order)
  const timer = setTimeout(() => worker.process.kill('SIGKILL'), order.timeout + GRACE)
  await exit
  clearTimeout(timer)
}

function tell(worker: Worker, order: WorkerOrder): void {
  if (worker.isConnected()) worker.send(order, () => {})
}
