/** The connection that listens: there as long as the backend is open, whatever becomes of a single connection. */
import { type Client, closedError, isAnswer, type Line } from './connection.js'

/** What is done with the connection. */
export interface LinkWork {
  /** Prepares a connection that was just made; before that nobody else uses it. If this fails, it is made once more. */
  prepare(line: Line): Promise<void>
  /** The connection is there. */
  opened(): void
  notified(channel: string, payload: string): void
  /** Asks anything of the server: what counts is that it answers. */
  prove(line: Line): Promise<unknown>
}

export interface LinkTiming {
  /** A connection that has been silent for this long is asked whether it is alive, in milliseconds. */
  proveAfter: number
  /** How long a connection may take to prove that it is alive before it is replaced, in milliseconds. */
  proveLimit: number
}

/** Together they say how long the loss of a connection that does not break can go unnoticed: less than 4 seconds. */
export const TIMING: LinkTiming = { proveAfter: 1_500, proveLimit: 2_000 }

/** Longest pause before the connection is made again, in milliseconds. */
const LONGEST_PAUSE = 1_000

export class Link {
  readonly #client: Pick<Client, 'connect'>
  readonly #work: LinkWork
  readonly #timing: LinkTiming
  #line: Line | undefined
  #attempt: Promise<void> | undefined
  #failures = 0
  /** By the monotonic clock, when the connection last answered. */
  #answeredAt = 0
  #proving = false
  #retryTimer: NodeJS.Timeout | undefined
  #proofTimer: NodeJS.Timeout | undefined
  #closed = false

  /** Connects at the first `ready()`. */
  constructor(client: Pick<Client, 'connect'>, work: LinkWork, timing: LinkTiming) {
    this.#client = client
    this.#work = work
    this.#timing = timing
  }

  /** The connection, if it is there. */
  get line(): Line | undefined {
    return this.#line
  }

  /** Resolves when there is a connection. Rejects when it cannot be made now; it is tried again all the same. */
  async ready(): Promise<void> {
    if (this.#closed) throw closedError()
    if (this.#line) return
    this.#attempt ??= this.#connect().finally(() => {
      this.#attempt = undefined
    })
    await this.#attempt
  }

  /** What `ask` resolves with. When it fails and not by the server's answer, the connection is replaced. */
  async use<T>(line: Line, ask: (line: Line) => Promise<T>): Promise<T> {
    try {
      const answer = await ask(line)
      if (line === this.#line) {
        this.#answeredAt = performance.now()
        this.#failures = 0
      }
      return answer
    } catch (error) {
      if (!isAnswer(error)) this.#replace(line)
      throw error
    }
  }

  /** Like `use`, but the connection is replaced whatever has failed; then undefined. */
  async attempt<T>(line: Line, ask: (line: Line) => Promise<T>): Promise<T | undefined> {
    try {
      return await this.use(line, ask)
    } catch {
      this.#replace(line)
      return undefined
    }
  }

  /** Something gave reason to doubt the connection: it has to prove at once that it is alive. */
  doubt(): void {
    const line = this.#line
    if (!line || this.#proving) return
    this.#proving = true
    this.use(line, (line) => this.#work.prove(line))
      // The connection is replaced, or is alive and refuses what was asked.
      .catch(() => {})
      .finally(() => {
        this.#proving = false
      })
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retryTimer)
    clearInterval(this.#proofTimer)
    const last = this.#line
    this.#line = undefined
    await last?.drop()
    await this.#attempt?.catch(() => {})
  }

  async #connect(): Promise<void> {
    clearTimeout(this.#retryTimer)
    let made: Line | undefined
    let isLost = false
    try {
      const line = await this.#client.connect({
        notified: (channel, payload) => {
          if (!this.#closed) this.#work.notified(channel, payload)
        },
        lost: () => {
          isLost = true
          if (made) this.#replace(made)
        },
      })
      made = line
      await this.#work.prepare(line)
      if (this.#closed) throw closedError()
      if (isLost) throw new Error('postgres: the connection for LISTEN was lost')
      this.#line = line
    } catch (error) {
      const ended = made?.drop()
      // Whoever closes waits until nothing is left of it.
      if (this.#closed) await ended
      this.#retryLater()
      throw error
    }
    this.#answeredAt = performance.now()
    this.#proofTimer = setInterval(() => this.#proveIfSilent(), this.#timing.proveAfter / 4)
    this.#proofTimer.unref()
    this.#work.opened()
  }

  /** A connection that a firewall forgot does not break: it is silent, also when it is asked something. */
  #proveIfSilent(): void {
    if (performance.now() - this.#answeredAt >= this.#timing.proveAfter) this.doubt()
  }

  #replace(lost: Line): void {
    if (lost !== this.#line) return
    this.#line = undefined
    clearInterval(this.#proofTimer)
    void lost.drop()
    this.#retryLater()
  }

  #retryLater(): void {
    clearTimeout(this.#retryTimer)
    if (this.#closed) return
    const pause = Math.min(LONGEST_PAUSE, 25 * 2 ** this.#failures++) * (0.5 + Math.random() / 2)
    this.#retryTimer = setTimeout(() => this.ready().catch(() => {}), pause)
    this.#retryTimer.unref()
  }
}
