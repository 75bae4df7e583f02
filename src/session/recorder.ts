/** The record of a live session: what is changed here is stored before it counts, what was changed elsewhere is adopted. */
import type { Journal, SessionRecord } from '../backend/backend.js'
import { isRequest, type JSONRPCNotification, type JSONRPCRequest } from '../wire/jsonrpc.js'
import { Refusal } from '../wire/refusal.js'
import { journalled, replay } from './journal.js'
import type { LiveSessionHost } from './live.js'

/** How long an answer waits for other nodes' instances to follow a change, in ms; they find out by themselves later. */
const FOLLOW_TIMEOUT = 250

/** Characters that the URIs of all subscriptions may have: the record is written as a whole with each of them. */
const MAX_SUBSCRIPTIONS = 256 * 1024

/** Tells the instance something, again or for the first time. */
export type Teach = (message: Pick<JSONRPCRequest, 'method' | 'params'>) => Promise<void>

export class Recorder {
  #record: SessionRecord
  #turn: Promise<void> = Promise.resolve()

  constructor(
    record: SessionRecord,
    private readonly host: Pick<LiveSessionHost, 'store' | 'ttlOf' | 'askOthers'>,
    private readonly teach: Teach,
  ) {
    this.#record = record
  }

  get record(): SessionRecord {
    return this.#record
  }

  /** Stores what a message changes in the journal. */
  add(message: JSONRPCRequest | JSONRPCNotification): Promise<void> {
    const { store, ttlOf, askOthers } = this.host
    return this.#next(async () => {
      let conflict = false
      for (;;) {
        const journal = journalled(this.#record.journal, message)
        if (journal === this.#record.journal) break
        if (sizeOf(journal) > MAX_SUBSCRIPTIONS) throw new Refusal('tooManySubscriptions')
        const updated = { ...this.#record, revision: this.#record.revision + 1, journal }
        if (await store.update(updated, ttlOf(updated))) {
          this.#record = updated
          const change = { kind: 'updated', revision: updated.revision } as const
          await askOthers(updated.id, change, { timeout: FOLLOW_TIMEOUT }).catch(() => {})
          break
        }
        const stored = await store.load(this.#record.id)
        if (!stored) throw new Refusal('sessionNotFound')
        await this.#adopt(stored)
        conflict = true
      }
      // what another node had changed was just told to the instance, after it had handled this message
      if (conflict && isRequest(message)) await this.teach(message)
    })
  }

  /** Makes the instance know what another node has stored. */
  adopt(stored: SessionRecord): Promise<void> {
    return this.#next(() => this.#adopt(stored))
  }

  async #adopt(stored: SessionRecord): Promise<void> {
    const known = this.#record
    if (stored.revision <= known.revision) return
    this.#record = stored
    for (const message of replay(known.journal, stored.journal)) await this.teach(message)
  }

  #next(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => {})
    return turn
  }
}

function sizeOf(journal: Journal): number {
  return journal.subscriptions.reduce((size, uri) => size + uri.length, 0)
}
