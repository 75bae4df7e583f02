/** Commands to Redis over a connection that is made when it is first needed, and replaced when it hangs. */
import { asError } from '../../util/error.js'
import { Late, within } from '../../util/within.js'
import type { Connection, Connector, Send } from './connection.js'

/** How long a command may take before its connection is replaced, in milliseconds. */
const COMMAND_TIMEOUT = 5_000
/** How long commands wait for the first attempt to connect, in milliseconds. */
const CONNECT_TIMEOUT = 5_000
/** A connection that has become neither ready nor failed for so long, in milliseconds, is stuck, and replaced. */
const STUCK_AFTER = 15_000

/** Redis cannot be used right now. Its message holds no address and no password. */
export class RedisUnavailable extends Error {
  override readonly name = 'RedisUnavailable'
}

export interface LinkOptions {
  /** Rejects if the server cannot be used. Called before the first command, and before later ones until it has resolved once. */
  check?(send: Send): Promise<void>
  /** The connection can be used, for the first time or again. */
  ready?(): void
  message?(channel: string, text: string): void
}

/**
 * Connects at the first use. Commands wait for that attempt to succeed or fail. Later, while the connection is lost, commands
 * reject at once, and reconnecting goes on in the background.
 */
export class Link {
  readonly #connector: () => Promise<Connector>
  readonly #options: LinkOptions
  #connection: Connection | undefined
  /** Settles when the first attempt to connect has succeeded or failed. */
  #firstAttempt: Promise<void> | undefined
  /** How many connections were replaced. */
  #generation = 0
  #checked: Promise<void> | undefined
  /** Why the connection cannot be used, if it cannot. */
  #problem = 'not connected yet'
  /** When the connection last became ready or failed, in milliseconds since the epoch. */
  #lastEventAt = 0
  #secret: string | undefined
  #closed = false

  constructor(connector: () => Promise<Connector>, options: LinkOptions = {}) {
    this.#connector = connector
    this.#options = options
  }

  /** Sends a command to the server that has `key`; without a key to any server. */
  send(key: string | undefined, args: string[]): Promise<unknown> {
    return this.#use((connection) => connection.send(key, args))
  }

  /** Sends commands one right after the other over one socket, to the server that has `key`. */
  sendInARow(key: string, commands: string[][]): Promise<unknown[]> {
    return this.#use((connection) => connection.sendInARow(key, commands))
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

  /** Whether a script may have the keys of several sessions: not in a cluster. */
  async hasOneServer(): Promise<boolean> {
    try {
      return (await this.#connector()).oneServer
    } catch (error) {
      throw this.#describe(error)
    }
  }

  /** One function for each master, which sends commands to that one. */
  async masters(): Promise<Send[]> {
    const masters = await this.#use((connection) => connection.masters())
    return masters.map((send) => (args) => this.#use(() => send(args)))
  }

  /** Tells one connection from the next: another number after each replacement. */
  get generation(): number {
    return this.#generation
  }

  /**
   * Replaces the connection by a new one; commands that were not answered yet reject.
   *
   * @param generation Which connection is meant. Nothing is done if that one was replaced already.
   */
  replace(reason: string, generation: number): void {
    if (this.#closed || generation !== this.#generation) return
    this.#generation++
    this.#connection?.destroy()
    this.#connection = undefined
    this.#problem = reason
    this.#connect().catch(() => {
      // There is no connection now that would try again by itself, so the next command does.
      this.#firstAttempt = undefined
    })
  }

  close(): void {
    this.#closed = true
    this.#connection?.destroy()
    this.#connection = undefined
  }

  async #use<T>(action: (connection: Connection) => Promise<T>): Promise<T> {
    const connection = await this.#usableConnection()
    const generation = this.#generation
    try {
      await this.#check(connection)
      return await within(COMMAND_TIMEOUT, action(connection))
    } catch (error) {
      // A connection that a firewall forgot looks healthy for many minutes. A new one is worth a try.
      if (error instanceof Late) this.replace(error.message, generation)
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

  async #usableConnection(): Promise<Connection> {
    if (this.#connection?.ready()) return this.#connection
    if (!this.#closed) {
      this.#firstAttempt ??= this.#tryFirst()
      await this.#firstAttempt
    }
    if (this.#closed) throw new RedisUnavailable('Redis: the backend was closed')
    if (this.#connection?.ready()) return this.#connection
    const isStuck = this.#connection && Date.now() - this.#lastEventAt > STUCK_AFTER
    if (isStuck) this.replace(this.#problem, this.#generation)
    throw this.#describe(this.#problem)
  }

  async #tryFirst(): Promise<void> {
    try {
      await within(CONNECT_TIMEOUT, this.#connect())
    } catch (error) {
      // Without a connection, for instance because no client library is installed, the next command tries again.
      if (!this.#connection) this.#firstAttempt = undefined
      if (!(error instanceof Late)) throw this.#describe(error)
      this.#problem = error.message
    }
  }

  /** Resolves when the new connection is ready or has failed once. */
  async #connect(): Promise<void> {
    const generation = this.#generation
    const connector = await this.#connector()
    this.#secret = connector.secret
    if (this.#closed || generation !== this.#generation) return
    await new Promise<void>((resolve) => {
      const isCurrent = () => this.#connection === connection
      const connection: Connection = connector.connect({
        ready: () => {
          if (!isCurrent()) return
          this.#lastEventAt = Date.now()
          resolve()
          this.#options.ready?.()
        },
        failed: (error) => {
          if (!isCurrent()) return
          this.#lastEventAt = Date.now()
          this.#problem = text(error)
          resolve()
        },
        message: (channel, text) => {
          if (isCurrent()) this.#options.message?.(channel, text)
        },
      })
      this.#connection = connection
      this.#lastEventAt = Date.now()
    })
  }

  /**
   * An error that is safe to log. It has no cause: the libraries' errors carry the command with its arguments, those of AUTH
   * included, and may quote what was sent.
   */
  #describe(error: unknown): RedisUnavailable {
    if (error instanceof RedisUnavailable) return error
    const message = text(error)
    return new RedisUnavailable(`Redis: ${this.#secret ? message.replaceAll(this.#secret, '***') : message}`)
  }
}

/** What went wrong, in words. */
function text(thrown: unknown): string {
  const error = asError(thrown)
  // Node's error for a host with several addresses, and the cluster's, have their reason inside.
  const inner = error instanceof AggregateError ? error.errors[0] : 'lastNodeError' in error && error.lastNodeError
  return inner instanceof Error ? text(inner) : error.message || error.name
}
