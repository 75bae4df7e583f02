/** The record of a live session: what changes here is stored before it counts, what changed elsewhere is adopted. */
import type { Journal, SessionRecord, SessionStore } from '../backend/backend.js'
import { isRequest, type JSONRPCNotification, type JSONRPCRequest } from '../wire/jsonrpc.js'
import { Refusal } from '../wire/refusal.js'
import { journalled, replay } from './journal.js'

/** Characters that the URIs of all subscriptions may have: the record is written as a whole with each of them. */
const MAX_SUBSCRIPTIONS = 256 * 1024

export interface RecordHost {
  readonly store: SessionStore
  /** Time to live of a record from now, in ms. */
  ttlOf(record: SessionRecord): number
  /** Tells the session's other instances of a new revision; never rejects. */
  tellUpdated(session: string, revision: number): Promise<void>
  /** Tells the instance here something that it does not know, or must be told again. */
  teach(message: Pick<JSONRPCRequest, 'method' | 'params'>): Promise<void>
}

export class LiveRecord {
  #record: SessionRecord
  /** Changes are made one after the other. */
  #last: Promise<void> = Promise.resolve()

  constructor(
    record: SessionRecord,
    private readonly host: RecordHost,
  ) {
    this.#record = record
  }

  get value(): SessionRecord {
    return this.#record
  }

  /**
   * Stores what a message changes in the journal.
   *
   * @throws Refusal if the session is gone or full.
   */
  add(message: JSONRPCRequest | JSONRPCNotification): Promise<void> {
    return this.#next(async () => {
      let conflict = false
      for (;;) {
        const journal = journalled(this.#record.journal, message)
        if (journal === this.#record.journal) break
        if (sizeOf(journal) > MAX_SUBSCRIPTIONS) throw new Refusal('tooManySubscriptions')
        if (await this.#update(journal)) break
        const stored = await this.host.store.load(this.#record.id)
        if (!stored) throw new Refusal('sessionNotFound')
        await this.#adopt(stored)
        conflict = true
      }
      // The instance was just told what another node has stored, after it had handled this message.
      if (conflict && isRequest(message)) await this.host.teach(message)
    })
  }

  /** Takes the record as the store has it, and makes the instance know what is new in it. */
  adopt(stored: SessionRecord): Promise<void> {
    return this.#next(() => this.#adopt(stored))
  }

  /** False: another node has stored a revision that is not known here. */
  async #update(journal: Journal): Promise<boolean> {
    const updated = { ...this.#record, revision: this.#record.revision + 1, journal }
    if (!(await this.host.store.update(updated, this.host.ttlOf(updated)))) return false
    this.#record = updated
    await this.host.tellUpdated(updated.id, updated.revision)
    return true
  }

  async #adopt(stored: SessionRecord): Promise<void> {
    const known = this.#record
    if (stored.revision <= known.revision) return
    this.#record = stored
    for (const message of replay(known.journal, stored.journal)) await this.host.teach(message)
  }

  #next(change: () => Promise<void>): Promise<void> {
    const changed = this.#last.then(change)
    this.#last = changed.catch(() => {})
    return changed
  }
}

function sizeOf(journal: Journal): number {
  return journal.subscriptions.reduce((size, uri) => size + uri.length, 0)
}
