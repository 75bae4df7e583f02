/**
 * What the program wants all sessions to be told. Each node hears of it, and one of those that hold a session tells it: the
 * one where its client follows the standalone stream, or did last. Where two believe to be that one, the log keeps what they
 * write once.
 */
import { type EventLog, MAX_SESSIONS, type SessionRecord, type SessionStore } from '../backend/backend.js'
import { type ClusterNode, nodeOf } from '../cluster/node.js'
import { STANDALONE } from '../stream/event-id.js'
import type { Streams } from '../stream/streams.js'
import type { Holdings } from './holdings.js'
import type { Residents } from './residents.js'
import type { Broadcast } from './routing.js'

/** Sessions that are told in one turn of the event loop. */
const CHUNK = 32

/** How long the nodes may be apart in hearing of a broadcast, in ms. */
const MAX_APART = 3000

/** How long after its `initialize` a client that never followed its standalone stream is taken to be about to, in ms. */
const FIRST_GET = 60_000

export interface BroadcastsHost {
  readonly node: ClusterNode
  readonly store: SessionStore
  readonly log: EventLog
  readonly residents: Residents
  readonly holdings: Holdings
  readonly streams: Streams
  onerror(error: Error): void
}

export class Broadcasts {
  /** Those of a moment ago, and when each was heard of, in ms since the epoch. */
  #recent: { broadcast: Broadcast; at: number }[] = []

  constructor(private readonly host: BroadcastsHost) {}

  /** Resolves when all that are to be told by this node have it in their streams, or the log does not take it. */
  async tell(broadcast: Broadcast): Promise<void> {
    this.#recent = [...this.#justHeard(), { broadcast, at: Date.now() }]
    const { residents, holdings, streams } = this.host
    const sessions = new Set([...residents.ids(), ...streams.open.sessions(), ...holdings.justReleased()])
    await this.#tellThose([...sessions], broadcast)
  }

  /**
   * A session is held or followed here from now on: another node may have left it to this one, which had heard of the broadcast
   * before it heard of the session. Never rejects.
   */
  async catchUp(session: string): Promise<void> {
    for (const { broadcast, at } of this.#justHeard()) {
      await this.#tellThose([session], broadcast, at).catch(this.host.onerror)
    }
  }

  #justHeard() {
    return this.#recent.filter(({ at }) => Date.now() - at < MAX_APART)
  }

  /** @param at When it was heard of: sessions that are younger have nothing to do with it. */
  async #tellThose(sessions: readonly string[], broadcast: Broadcast, at = Number.POSITIVE_INFINITY): Promise<void> {
    const told: Promise<void>[] = []
    for (let start = 0; start < sessions.length; start += MAX_SESSIONS) {
      const records = await this.#concerned(sessions.slice(start, start + MAX_SESSIONS), broadcast)
      const concerned = records.filter(({ createdAt }) => createdAt < at)
      // If it cannot be found out who is to tell them, all do.
      const mine = await this.#mine(concerned).catch(() => concerned)
      for (const [index, { id }] of mine.entries()) {
        if (index % CHUNK === CHUNK - 1) await new Promise(setImmediate)
        const sent = this.host.streams.writers.sendDurably(id, broadcast.text, broadcast.batch)
        told.push(sent.catch(this.host.onerror))
      }
    }
    await Promise.all(told)
  }

  /** The sessions that have to do with it. */
  async #concerned(sessions: readonly string[], { uri }: Broadcast): Promise<SessionRecord[]> {
    const { residents, store, onerror } = this.host
    const records = await Promise.all(
      sessions.map(async (session) => {
        const live = residents.get(session)?.live.record
        return live ?? (await store.load(session).catch(onerror))?.record
      }),
    )
    return records.filter((record): record is SessionRecord => {
      if (!record?.journal.initialized) return false
      return uri === undefined || record.journal.subscriptions.includes(uri)
    })
  }

  /** Those that this node is to tell. */
  async #mine(records: readonly SessionRecord[]): Promise<SessionRecord[]> {
    const { node, store, log, streams } = this.host
    const isFollowedHere = ({ id }: SessionRecord) => streams.open.get(id, STANDALONE) !== undefined
    const others = records.filter((record) => !isFollowedHere(record))
    if (others.length === 0 || !store.look) return [...records]
    const [sessions, standalone] = await Promise.all([
      store.look(others.map(({ id }) => id)),
      log.look(others.map(({ id }) => ({ session: id, stream: STANDALONE }))),
    ])
    const nodesOf = (index: number) => (sessions[index]?.holders ?? []).map(nodeOf)
    const dead = new Set(await node.dead([...new Set(others.flatMap((_, index) => nodesOf(index)))]))
    const mine = others.filter(({ createdAt }, index) => {
      const stream = standalone[index]
      // Nobody comes for what is kept for a client that does not listen.
      if (!sessions[index] || (!stream && Date.now() - createdAt > FIRST_GET)) return false
      const alive = nodesOf(index).filter((each) => !dead.has(each))
      const last = stream?.reader === undefined ? undefined : nodeOf(stream.reader)
      const teller = last !== undefined && alive.includes(last) ? last : alive.sort()[0]
      return teller === undefined || teller === node.id
    })
    return [...records.filter(isFollowedHere), ...mine]
  }
}
