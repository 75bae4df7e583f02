/** The connections that are open on this node: at most one for each stream. */
import { Interval } from '../util/interval.js'
import { KEEP_ALIVE } from '../wire/sse.js'
import type { Connection } from './connection.js'

/**
 * How often a connection looks into the log, in case the news of an event was lost, in ms. Not all at once: a share of them
 * has its turn at each tick.
 */
const POLL_INTERVAL = 3000
const POLL_SHARES = 12

export interface OpenConnectionsOptions {
  /** Interval of comments that keep proxies from closing quiet connections, in ms; 0: none. */
  keepAlive: number
  /** Whether other nodes may append to the streams that are followed here. */
  shared: boolean
}

export class OpenConnections {
  /** Messages that clients should have got, and that the log never took or no longer held. */
  lost = 0
  /** Called when a connection of a session has ended. */
  onclosed: (session: string) => void = () => {}
  readonly #sessions = new Map<string, Map<string, Connection>>()
  readonly #timers: readonly Interval[]
  readonly #pollShares: readonly Set<Connection>[] = Array.from({ length: POLL_SHARES }, () => new Set())
  #turn = 0

  constructor({ keepAlive, shared }: OpenConnectionsOptions) {
    const comment = new Interval(keepAlive, () => this.#each((connection) => connection.write(KEEP_ALIVE)))
    const poll = new Interval(POLL_INTERVAL / POLL_SHARES, () => this.#poll())
    this.#timers = shared ? [comment, poll] : [comment]
  }

  get size(): number {
    let size = 0
    for (const connections of this.#sessions.values()) size += connections.size
    return size
  }

  /** The sessions with a connection open. */
  sessions(): string[] {
    return [...this.#sessions.keys()]
  }

  count(session: string): number {
    return this.#sessions.get(session)?.size ?? 0
  }

  get(session: string, stream: string): Connection | undefined {
    return this.#sessions.get(session)?.get(stream)
  }

  /** All of a session. */
  of(session: string): Connection[] {
    return [...(this.#sessions.get(session)?.values() ?? [])]
  }

  /** Takes a connection in; the one that followed its stream until now ends. */
  add(connection: Connection): void {
    const { session, stream } = connection
    this.get(session, stream)?.close()
    const connections = this.#sessions.get(session) ?? new Map<string, Connection>()
    this.#sessions.set(session, connections.set(stream, connection))
    // One that began with its stream is fed by the writer here, and has nothing to look for.
    if (connection.name !== undefined) this.#pollShares[Math.floor(Math.random() * POLL_SHARES)]?.add(connection)
    for (const timer of this.#timers) timer.start()
  }

  /** Forgets a connection that has ended; another one may follow its stream by now. */
  remove(connection: Connection): void {
    const { session, stream } = connection
    for (const share of this.#pollShares) share.delete(connection)
    const connections = this.#sessions.get(session)
    if (connections?.get(stream) !== connection) return
    connections.delete(stream)
    if (connections.size === 0) this.#sessions.delete(session)
    if (this.#sessions.size === 0) for (const timer of this.#timers) timer.stop()
    this.onclosed(session)
  }

  #poll(): void {
    this.#turn = (this.#turn + 1) % POLL_SHARES
    for (const connection of [...(this.#pollShares[this.#turn] ?? [])]) connection.catchUp()
  }

  #each(work: (connection: Connection) => void): void {
    for (const session of this.sessions()) for (const connection of this.of(session)) work(connection)
  }
}
