/** The connections that are open on this node: at most one for each stream. */
import { Interval } from '../util/interval.js'
import { KEEP_ALIVE } from '../wire/sse.js'
import type { Connection } from './connection.js'
import { STANDALONE } from './event-id.js'
import type { Polling } from './polling.js'

export interface OpenConnectionsOptions {
  /** Interval of comments that keep proxies from closing quiet connections, in ms; 0: none. */
  keepAlive: number
  /** Looks for what other nodes have appended; left out where there are none. */
  polling?: Polling
}

export class OpenConnections {
  /** Messages that clients should have got, and that the log never took or no longer held. */
  lost = 0
  /** Called when the standalone stream of a session is followed here from now on. */
  onfollowed: (session: string) => void = () => {}
  /** Called when a connection of a session has ended, or could not be made. */
  onclosed: (session: string) => void = () => {}
  readonly #sessions = new Map<string, Map<string, Connection>>()
  #size = 0
  readonly #commenting: Interval
  readonly #polling: Polling | undefined

  constructor({ keepAlive, polling }: OpenConnectionsOptions) {
    this.#commenting = new Interval(keepAlive, () => {
      for (const connection of this.all()) connection.write(KEEP_ALIVE)
    })
    this.#polling = polling
  }

  get size(): number {
    return this.#size
  }

  /** The sessions with a connection open. */
  sessions(): string[] {
    return [...this.#sessions.keys()]
  }

  all(): Connection[] {
    return this.sessions().flatMap((session) => this.of(session))
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

  /** Events were written to a connection. */
  wrote(connection: Connection): void {
    this.#polling?.wrote(connection)
  }

  /** Takes a connection in; the one that followed its stream until now ends. */
  add(connection: Connection): void {
    const { session, stream } = connection
    this.get(session, stream)?.close()
    const connections = this.#sessions.get(session) ?? new Map<string, Connection>()
    this.#sessions.set(session, connections.set(stream, connection))
    this.#size++
    // One that began with its stream is fed by the writer here, and has nothing to look for.
    if (connection.name !== undefined) this.#polling?.add(connection)
    this.#commenting.start()
    if (stream === STANDALONE) this.onfollowed(session)
  }

  /** Forgets a connection that has ended; another one may follow its stream by now. */
  remove(connection: Connection): void {
    const { session, stream } = connection
    this.#polling?.remove(connection)
    const connections = this.#sessions.get(session)
    if (connections?.get(stream) !== connection) return
    connections.delete(stream)
    this.#size--
    if (connections.size === 0) this.#sessions.delete(session)
    if (this.#sessions.size === 0) this.#commenting.stop()
    this.onclosed(session)
  }
}
