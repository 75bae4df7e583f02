/** A connection that is there when it is needed, replaced when it hangs, and quick to say when it is of no use. */
import { asError } from '../../util/error.js'
import { Late, within } from '../../util/within.js'
import type { Connection, Connector } from './connection.js'

/** How long a command may take before its connection is given up, in milliseconds. */
const COMMAND_TIMEOUT = 5_000
/** How long the first attempt to connect is waited for. */
const CONNECT_TIMEOUT = 5_000
/** A connection that is not ready and has not even failed for so long is stuck. */
const STUCK_AFTER = 15_000

/** Redis cannot be used right now. Its message holds no address and no password. */
export class RedisUnavailable extends Error {
  override readonly name = 'RedisUnavailable'
}

export interface LinkOptions {
  /** Rejects if the server is of no use. Asked before the first command, and again until it resolves. */
  check?(send: (args: string[]) => Promise<unknown>): Promise<void>
  /** The connection can be used, for the first time or again. */
  ready?(): void
  message?(channel: string, text: string): void
}

/**
 * Connects at the first use. Until that attempt has ended commands wait for it; later, whenever the connection is away,
 * they are rejected at once, and reconnecting goes on in the background.
 */
export class Link {
  readonly #connector: () => Promise<Connector>
  readonly #options: LinkOptions
  #connection: Connection | undefined
  /** Settled when the first attempt to connect has ended, well or badly. */
  #first: Promise<void> | undefined
  #epoch = 0
  #checked: Promise<void> | undefined
  #trouble = 'not connected yet'
  /** When the connection last gave a sign. */
  #sign = 0
  #secret: string | undefined
  #closed = false

  constructor(connector: () => Promise<Connector>, options: LinkOptions = {}) {
    this.#connector = connector
    this.#options = options
  }

  /** Sends a command to the node that has `key`, or to any node. */
  send(key: string | undefined, args: string[]): Promise<unknown> {
    return this.#use((connection) => connection.send(key, args))
  }

  publish(channel: string, message: string): Promise<unknown> {
    return this.#use((connection) => connection.publish(channel, message))
  }

  subscribe(channel: string): Promise<unknown> {
    return this.#use((connection) => connection.subscribe(channel))
  }

  unsubscribe(channel: string): Promise<unknown> {
    return this.#use((connection) => connection.unsubscribe(channel))
  }

  /** The ways to send a command to each node that has keys of its own. */
  async masters(): Promise<((args: string[]) => Promise<unknown>)[]> {
    const nodes = await this.#use((connection) => connection.masters())
    return nodes.map((send) => (args) => this.#use(() => send(args)))
  }

  /** Which connection it is by now: one more with each replacement. */
  get epoch(): number {
    return this.#epoch
  }

  /**
   * Gives the connection up for a new one; what was sent and not answered rejects. Does nothing if the connection that the
   * caller complains of has been replaced already.
   */
  replace(reason: string, epoch: number): void {
    if (this.#closed || epoch !== this.#epoch) return
    this.#epoch++
    this.#connection?.destroy()
    this.#connection = undefined
    this.#trouble = reason
    this.#connect().catch(() => {
      // Nothing goes on in the background now: the next use tries again.
      this.#first = undefined
    })
  }

  close(): void {
    this.#closed = true
    this.#connection?.destroy()
    this.#connection = undefined
  }

  async #use<T>(action: (connection: Connection) => Promise<T>): Promise<T> {
    const connection = await this.#usable()
    const epoch = this.#epoch
    try {
      await this.#check(connection)
      return await within(COMMAND_TIMEOUT, action(connection))
    } catch (error) {
      // Half-open connections look healthy for many minutes; a new one cannot be worse than one that does not answer.
      if (error instanceof Late) this.replace(error.message, epoch)
      throw this.#describe(error)
    }
  }

  #check(connection: Connection): Promise<void> | undefined {
    const { check } = this.#options
    if (!check) return undefined
    this.#checked ??= within(
      COMMAND_TIMEOUT,
      check((args) => connection.send(undefined, args)),
    ).catch((error) => {
      this.#checked = undefined
      throw error
    })
    return this.#checked
  }

  async #usable(): Promise<Connection> {
    if (this.#connection?.ready()) return this.#connection
    if (!this.#closed) {
      this.#first ??= this.#firstAttempt()
      await this.#first
    }
    if (this.#closed) throw new RedisUnavailable('Redis: the backend was closed')
    if (this.#connection?.ready()) return this.#connection
    if (this.#connection && Date.now() - this.#sign > STUCK_AFTER) this.replace(this.#trouble, this.#epoch)
    throw this.#describe(this.#trouble)
  }

  async #firstAttempt(): Promise<void> {
    try {
      await within(CONNECT_TIMEOUT, this.#connect())
    } catch (error) {
      // No client library: the next use tries again.
      if (!this.#connection) this.#first = undefined
      if (!(error instanceof Late)) throw this.#describe(error)
      this.#trouble = error.message
    }
  }

  /** Resolves when the new connection is ready or has failed once. */
  async #connect(): Promise<void> {
    const epoch = this.#epoch
    const connector = await this.#connector()
    this.#secret = connector.secret
    if (this.#closed || epoch !== this.#epoch) return
    await new Promise<void>((resolve) => {
      const current = () => this.#connection === connection
      const connection: Connection = connector.connect({
        ready: () => {
          if (!current()) return
          this.#sign = Date.now()
          resolve()
          this.#options.ready?.()
        },
        trouble: (error) => {
          if (!current()) return
          this.#sign = Date.now()
          this.#trouble = text(error)
          resolve()
        },
        message: (channel, message) => {
          if (current()) this.#options.message?.(channel, message)
        },
      })
      this.#connection = connection
      this.#sign = Date.now()
    })
  }

  /**
   * An error that is safe to log: the libraries' errors carry the command with its arguments, AUTH's among them, and may
   * quote what was sent.
   */
  #describe(error: unknown): Error {
    if (error instanceof RedisUnavailable) return error
    const message = text(error)
    return new RedisUnavailable(`Redis: ${this.#secret ? message.replaceAll(this.#secret, '***') : message}`)
  }
}

function text(thrown: unknown): string {
  const error = asError(thrown)
  // Node's error for a host with several addresses, and the cluster's, have their reason inside.
  const inner = error instanceof AggregateError ? error.errors[0] : 'lastNodeError' in error && error.lastNodeError
  return inner instanceof Error ? text(inner) : error.message || error.name
}
