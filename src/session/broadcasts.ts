/** What the program wants all sessions to be told: each node tells those that it has at hand, once in the cluster. */
import type { SessionStore } from '../backend/backend.js'
import type { Streams } from '../stream/streams.js'
import type { Residents } from './residents.js'
import type { Broadcast } from './routing.js'

/** Sessions that are told in one turn of the event loop. */
const CHUNK = 32

export class Broadcasts {
  constructor(
    private readonly residents: Residents,
    private readonly streams: Streams,
    private readonly store: SessionStore,
    private readonly onerror: (error: Error) => void,
  ) {}

  /** Resolves when all that are to be told here have it in their streams, or the log does not take it. */
  async tell(broadcast: Broadcast): Promise<void> {
    const sessions = [...new Set([...this.residents.ids(), ...this.streams.open.sessions()])]
    const told: Promise<void>[] = []
    for (let i = 0; i < sessions.length; i += CHUNK) {
      if (i > 0) await new Promise(setImmediate)
      for (const session of sessions.slice(i, i + CHUNK)) {
        told.push(this.#tell(session, broadcast).catch(this.onerror))
      }
    }
    await Promise.all(told)
  }

  async #tell(session: string, { batch, text, uri }: Broadcast): Promise<void> {
    const record = this.residents.get(session)?.live.record ?? (await this.store.load(session))?.record
    if (!record?.journal.initialized || (uri !== undefined && !record.journal.subscriptions.includes(uri))) return
    await this.streams.writers.sendDurably(session, text, batch)
  }
}
