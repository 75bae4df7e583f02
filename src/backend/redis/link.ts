/** Commands to Redis over a connection that is made when it is first needed, and replaced when it hangs. */
import { asError } from '../../util/error.js'
import { Late, patiently, within } from '../../util/within.js'
import { backoff, type Connection, type Connector, type Send, type Shard } from './connection.js'

/** How long a command may take before its connection is replaced, in milliseconds. */
const COMMAND_TIMEOUT = 5_000
/** How long commands wait for the first attempt to connect, in milliseconds. */
const CONNECT_TIMEOUT = 5_000
/** How long an attempt may take by way of several servers, some of which may be away, in milliseconds. */
const ROUNDABOUT_TIMEOUT = 15_000
/** A connection that was in use for so long, in milliseconds, is no failed attempt, whatever ends it. */
const GOOD_AFTER = 5_000

/**
 * How long an attempt to connect may take before the next one is made, in milliseconds. Short, so that an attempt that was
 * begun in an outage does not outlast it for long; then longer, for a server that everybody wants to connect to.
 */
const attemptLimit = (attempt: number) => Math.min(2_000 + 500 * attempt, 4_000)

/**
 * The server is a replica now (UNBLOCKED is what that does to a WAIT), or has no data to serve. Other connections to the same
 * address may reach the server that took its place. An error in a script quotes the one of the command.
 */
const NOT_A_PRIMARY = /(^|: )-?(READONLY|LOADING|MASTERDOWN|UNBLOCKED) /

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
  /** The server has ended a subscription, see `ConnectionEvents`. */
  moved?(channel: string): void
  /** The server turned out not to be the primary, and the connection to it was replaced. Others may lead to the same server. */
  demoted?(reason: string): void
}

/**
 * Connects at the first use. Commands wait for that attempt to succeed or fail. Later, while the connection is lost, commands
 * reject at once, and reconnecting goes on in the background, at a bounded pace.
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
  /** Attempts to connect since the last good connection. */
  #attempts = 0
  /** When the connection became ready, in milliseconds since the epoch. Undefined: it is not. */
  #readyAt: number | undefined
  /** Until the next attempt, or until the present one has taken too long. */
  #timer: NodeJS.Timeout | undefined
  /** Tells those who wait for the present attempt that it is over. */
  #attemptOver = () => {}
  readonly #watchers: ((ready: boolean) => void)[] = []
  #secret: string | undefined
  #sharded = false
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
      return !(await this.#connector()).sharded
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

  /** Whether there is a connection that can be used. */
  get ready(): boolean {
    return this.#connection?.ready() ?? false
  }

  /** Has the listener called whenever the connection became ready or was lost. */
  watch(listener: (ready: boolean) => void): void {
    this.#watchers.push(listener)
  }

  /** In a cluster: the server that has the channel's slot. */
  shardOf(channel: string): Promise<Shard> {
    return this.#use(async (connection) => {
      if (!connection.shardOf) throw new Error('this is no cluster')
      return connection.shardOf(channel)
    })
  }

  /**
   * Asks for a sign of life over the socket that subscribes, and replaces the connection if there is none within `limit`
   * milliseconds. False: nobody was asked, because the library has no way to.
   */
  async ping(limit: number): Promise<boolean> {
    const connection = this.#connection
    if (!connection?.ready()) return true
    if (!connection.ping) return false
    const generation = this.#generation
    await patiently(limit, connection.ping()).catch((error: unknown) => {
      // An error is a sign of life, too.
      if (error instanceof Late) this.replace('no sign of life', generation)
    })
    return true
  }

  /**
   * Replaces the connection by a new one; commands that were not answered yet reject. The new one is made at once if the old
   * one was good for a while, else after a pause that grows each time.
   *
   * @param generation Which connection is meant. Nothing is done if that one was replaced already.
   */
  replace(reason: string, generation: number): void {
    if (this.#closed || generation !== this.#generation) return
    this.#generation++
    this.#connection?.destroy()
    this.#connection = undefined
    this.#problem = reason
    if (this.#readyAt !== undefined && Date.now() - this.#readyAt > GOOD_AFTER) this.#attempts = 0
    this.#readyAt = undefined
    this.#attemptOver()
    clearTimeout(this.#timer)
    this.#timer = setTimeout(
      () => {
        this.#connect().catch(() => {
          // There is no connection now that would try again by itself, so the next command does.
          this.#firstAttempt = undefined
        })
      },
      backoff(++this.#attempts),
    )
    this.#tell(false)
  }

  /** Replaces the connection, if there is one: what it leads to is no longer what it should. */
  renew(reason: string): void {
    if (this.#connection) this.replace(reason, this.#generation)
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#connection?.destroy()
    this.#connection = undefined
    this.#attemptOver()
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
      if (!this.#sharded && NOT_A_PRIMARY.test(text(error))) this.#leave(text(error), generation)
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

  /** Resolves when the new connection is ready, has failed once, or was replaced. */
  async #connect(): Promise<void> {
    const generation = this.#generation
    const connector = await this.#connector()
    this.#secret = connector.secret
    this.#sharded = connector.sharded ?? false
    if (this.#closed || generation !== this.#generation) return
    await new Promise<void>((resolve) => {
      this.#attemptOver = resolve
      const isCurrent = () => this.#generation === generation && !this.#closed
      const limit = connector.roundabout ? ROUNDABOUT_TIMEOUT : attemptLimit(this.#attempts)
      const watch = (problem: string) => {
        clearTimeout(this.#timer)
        this.#timer = setTimeout(() => this.replace(problem, generation), limit)
      }
      watch(`no connection within ${limit} ms`)
      this.#connection = connector.connect({
        ready: () => {
          if (!isCurrent()) return
          clearTimeout(this.#timer)
          this.#readyAt = Date.now()
          resolve()
          this.#options.ready?.()
          this.#tell(true)
        },
        failed: (error) => {
          if (!isCurrent()) return
          this.#problem = text(error)
          // A cluster stays usable when one of its servers fails.
          if (!this.ready) watch(this.#problem)
          resolve()
          this.#tell(false)
        },
        ended: (error) => {
          if (isCurrent()) this.replace(text(error), generation)
        },
        message: (channel, text) => {
          if (isCurrent()) this.#options.message?.(channel, text)
        },
        moved: (channel) => {
          if (isCurrent()) this.#options.moved?.(channel)
        },
      })
    })
  }

  /** Replaces a connection whose server is not the primary. */
  #leave(reason: string, generation: number): void {
    if (this.#closed || generation !== this.#generation) return
    this.replace(reason, generation)
    this.#options.demoted?.(reason)
  }

  #tell(ready: boolean): void {
    for (const watcher of this.#watchers) watcher(ready)
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
