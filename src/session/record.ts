/** The record of a live session: what changes here is stored before it counts, what changed elsewhere is adopted. */
import type { Held, Journal, SessionRecord, SessionStore } from '../backend/backend.js'
import { Unavailable } from '../backend/bounded.js'
import { isRequest, type JSONRPCNotification, type JSONRPCRequest } from '../wire/jsonrpc.js'
import { Refusal } from '../wire/refusal.js'
import { isSameJournal, journalled, replay } from './journal.js'
import { follows, successor } from './revisions.js'

/** How often a change is tried when the store has another revision each time: each time another node got its own change in. */
const MAX_ATTEMPTS = 50

export interface RecordHost {
  readonly store: SessionStore
  /** Characters that the URIs of all subscriptions may have: the record is written as a whole with each of them. */
  readonly maxSubscriptions: number
  /** Time to live of a record from now, in ms. */
  ttlOf(record: SessionRecord): number
  /** Tells the session's other instances of a new revision; never rejects. */
  tellUpdated(session: string, revision: number, held: Held): Promise<void>
  /** Tells the instance here something that it does not know, or must be told again. */
  teach(message: Pick<JSONRPCRequest, 'method' | 'params'>): Promise<void>
  onerror(error: Error): void
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
   * @throws Unavailable if the store refuses the change again and again.
   */
  add(message: JSONRPCRequest | JSONRPCNotification): Promise<void> {
    return this.#next(async () => {
      let attempts = 0
      for (; ; attempts++) {
        const known = this.#record
        const journal = journalled(known.journal, message)
        if (journal === known.journal) {
          // What this node knows may be old: only the store can say that a request changes nothing.
          if (!isRequest(message) || attempts === MAX_ATTEMPTS) break
          if (!(await this.#reconcile())) throw new Refusal('sessionNotFound')
          if (this.#record.revision === known.revision) break
          continue
        }
        if (sizeOf(journal) > this.host.maxSubscriptions) throw new Refusal('tooManySubscriptions')
        if (attempts === MAX_ATTEMPTS) throw this.#givenUp()
        if (await this.#replace(known.revision, successor(known, journal))) break
        if (!(await this.#reconcile())) throw new Refusal('sessionNotFound')
      }
      // The instance was just told what another node has stored, after it had handled this message.
      if (attempts > 0 && isRequest(message)) await this.host.teach(message)
    })
  }

  /**
   * Takes the record as the store has it, and makes the instance know what is new in it. A store that has gone backwards (a
   * failover with lag, a backup) is mended: of two records that nodes wrote without knowing of each other the one of the higher
   * revision counts, which was written later, and of two of the same revision the one in the store. That the session is
   * initialized is never taken back.
   *
   * @throws Unavailable if the store cannot be mended.
   */
  adopt(stored: SessionRecord): Promise<void> {
    return this.#next(async () => {
      if (this.#isNews(stored)) await this.#take(stored)
      // Or it was loaded before this node's last update.
      else await this.#reconcile()
    })
  }

  /** Makes the store and this node know the same; false: the session is not in the store. */
  async #reconcile(): Promise<boolean> {
    for (let attempts = 0; attempts < MAX_ATTEMPTS; attempts++) {
      const known = this.#record
      const stored = (await this.host.store.load(known.id))?.record
      if (!stored) return false
      if (this.#isNews(stored)) {
        await this.#take(stored)
        return true
      }
      const mended = mend(stored, known)
      if (mended !== stored && !(await this.#replace(stored.revision, mended))) continue
      this.host.onerror(wentBackwards(stored, known, mended))
      await this.#take(mended, known)
      return true
    }
    throw this.#givenUp()
  }

  /** Whether a record in the store follows from the one that is known here, or is that one. */
  #isNews(stored: SessionRecord): boolean {
    const known = this.#record
    if (stored.revision === known.revision) return isSameJournal(stored.journal, known.journal)
    return follows(stored, known) && (stored.journal.initialized || !known.journal.initialized)
  }

  async #take(record: SessionRecord, known = this.#record): Promise<void> {
    this.#record = record
    for (const message of replay(known.journal, record.journal)) await this.host.teach(message)
  }

  /** False: another node has stored another revision than the expected one. */
  async #replace(expected: number, record: SessionRecord): Promise<boolean> {
    const held = await this.host.store.update(record, expected, this.host.ttlOf(record))
    if (!held) return false
    this.#record = record
    await this.host.tellUpdated(record.id, record.revision, held)
    return true
  }

  #givenUp(): Unavailable {
    const error = new Unavailable(
      `a session could not be stored: its record was another one at each of ${MAX_ATTEMPTS} attempts`,
    )
    this.host.onerror(error)
    return error
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

/** What the store should have, if it has `stored`, which does not follow from `known`; `stored` itself if it has that already. */
function mend(stored: SessionRecord, known: SessionRecord): SessionRecord {
  const [newer, older] = stored.revision < known.revision ? [known, stored] : [stored, known]
  const initialized = newer.journal.initialized || older.journal.initialized
  if (newer === stored && newer.journal.initialized === initialized) return stored
  return successor(newer, { ...newer.journal, initialized }, older.revision)
}

/** What became of the session, without its id, which is a secret. */
function wentBackwards(stored: SessionRecord, known: SessionRecord, mended: SessionRecord): Error {
  const found = `the session store has gone backwards: it had revision ${stored.revision} of a session that is at ${known.revision} here`
  if (follows(known, stored)) return new Error(`${found}; nothing is lost: it has revision ${mended.revision} now`)
  const loser = stored.revision < known.revision ? stored : known
  return new Error(`${found}, and neither knew of the other; what changed up to revision ${loser.revision} is lost`)
}
