/** The connections that are open on this node: at most one for each stream. */
import { Interval } from '../util/interval.js'
import { KEEP_ALIVE } from '../wire/sse.js'
import type { Connection } from './connection.js'

/** How often a connection looks into the log, in case that the news of an event was lost, in ms. */
const POLL_INTERVAL = 3000

export interface OpenConnectionsOptions {
  /** Interval of comments that keep proxies from closing quiet connections, in ms; 0: none. */
  keepAlive: number
  /** Whether other nodes may append to the streams that are followed here. */
  shared: boolean
}

export class OpenConnections {
  /** Events that clients asked for and the log no longer held. */
  gaps = 0
  /** Called when a connection of a session has ended. */
  onclosed: (session: string) => void = () => {}
  readonly #sessions = new Map<string, Map<string, Connection>>()
  readonly #timers: readonly Interval[]

  constructor({ keepAlive, shared }: OpenConnectionsOptions) {
    const comment = new Interval(keepAlive, () => this.#each((connection) => connection.write(KEEP_ALIVE)))
    const poll = new Interval(POLL_INTERVAL, () => this.#each((connection) => connection.catchUp()))
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
    for (const timer of this.#timers) timer.start()
  }

  /** Forgets a connection that has ended; false: another one follows its stream by now. */
  remove(connection: Connection): boolean {
    const { session, stream } = connection
    const connections = this.#sessions.get(session)
    if (connections?.get(stream) !== connection) return false
    connections.delete(stream)
    if (connections.size === 0) this.#sessions.delete(session)
    if (this.#sessions.size === 0) for (const timer of this.#timers) timer.stop()
    this.onclosed(session)
    return true
  }

  #each(work: (connection: Connection) => void): void {
    for (const session of this.sessions()) for (const connection of this.of(session)) work(connection)
  }
}
