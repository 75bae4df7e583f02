/** This process among the others: its id, its address on the bus, its heartbeat, and who else is alive. */
import { randomBytes } from 'node:crypto'
import type { MessageBus } from '../backend/backend.js'
import { monotonic } from '../util/clock.js'
import { Interval } from '../util/interval.js'

const HEARTBEAT_INTERVAL = 1000
/** A node that was silent for this long is taken for dead, by the others and by itself, in ms. */
export const HEARTBEAT_TTL = 5000

/** A store that takes longer than this for an answer may have kept heartbeats waiting until they had run out, in ms. */
const MAX_STALL = 2000

/** The topic that every node is subscribed to. */
const ALL_NODES = 'nodes'

export type Standing = 'alive' | 'absent' | 'dead'

export class ClusterNode {
  /** New at every start. */
  readonly id = randomBytes(6).toString('base64url')
  /**
   * By the monotonic clock, the last time at which this node learned that the others may have taken it for dead. What it
   * believed until then must be compared with the store.
   */
  distrustedAt = Number.NEGATIVE_INFINITY
  /** Called with each text that a node sends to this one. To be set before `ready()` is first called. */
  onmessage: (text: string) => void = () => {}
  /** Nodes that were seen alive and are not known to be dead. */
  readonly #known = new Set<string>()
  /** The nodes that had a heartbeat at the last look, and when that was, by the monotonic clock. */
  #lastLook: { at: number; alive: ReadonlySet<string> } | undefined
  /** By the monotonic clock, since when the store has answered every look at the heartbeats; undefined: the last one failed. */
  #clearSince: number | undefined
  /** Nodes that the store has named since the last look: alive or not, nobody has made them up. */
  readonly #named = new Set<string>()
  /** When the heartbeats were last asked for, by the monotonic clock. */
  #lookBegan = Number.NEGATIVE_INFINITY
  /** A look that is still to begin. */
  #nextLook: Promise<ReadonlySet<string>> | undefined
  readonly #distrustListeners = new Set<() => void>()
  readonly #heart = new Interval(HEARTBEAT_INTERVAL, () => this.#beat().catch(() => {}))
  #names = 0
  #ready: Promise<void> | undefined
  #unsubscribe: (() => Promise<void>) | undefined
  #beatAt: number | undefined
  #closed = false

  /** Without `shared`, nobody else can be on the bus: there is no heartbeat, and nobody to send to. */
  constructor(
    private readonly bus: MessageBus,
    readonly shared: boolean,
  ) {}

  /** Resolves when other nodes can reach this one. No session may be live here before. */
  ready(): Promise<void> {
    if (!this.shared) return Promise.resolve()
    this.#ready ??= this.#start().catch((error) => {
      this.#ready = undefined
      throw error
    })
    return this.#ready
  }

  /** Rejects if this node cannot say that it is alive, for which it has to write. Joins the cluster if it has not yet. */
  async proveAlive(): Promise<void> {
    if (!this.shared || this.#closed) return
    const wasThere = this.#ready !== undefined
    await this.ready()
    if (wasThere) await this.#beat()
  }

  /** A name for a writer or a connection of this node that no other one has, see {@link nodeOf} and {@link numberOf}. */
  newName(): string {
    return `${this.id}:${this.#names++}`
  }

  /**
   * The other nodes, but for those known to be dead. After an outage of the store all heartbeats have run out together, so
   * nobody is taken for dead before it has answered for a whole heartbeat TTL.
   */
  async others(): Promise<string[]> {
    if (!this.shared) return []
    await this.#look()
    return [...this.#known].filter((node) => node !== this.id)
  }

  /** How nodes stand. `absent`: without a heartbeat, but it is not yet certain that they will not do anything any more. */
  async standing(nodes: Iterable<string>): Promise<Map<string, Standing>> {
    const asked = [...new Set(nodes)]
    const alive = this.shared && asked.some((node) => node !== this.id) ? await this.#look() : new Set<string>()
    const standing = await Promise.all(asked.map(async (node) => [node, await this.#standingOf(node, alive)] as const))
    return new Map(standing)
  }

  /** Those of the nodes that are known to be dead. That a node is alive may have been seen a moment ago. */
  async dead(nodes: readonly string[]): Promise<string[]> {
    const { at, alive } = this.#lastLook ?? { at: 0, alive: new Set<string>() }
    const isFresh = monotonic() - at < HEARTBEAT_INTERVAL
    if (nodes.every((node) => node === this.id || (isFresh && alive.has(node)))) return []
    const standing = await this.standing(nodes)
    return nodes.filter((node) => standing.get(node) === 'dead')
  }

  async isDead(node: string): Promise<boolean> {
    return (await this.standing([node])).get(node) === 'dead'
  }

  /**
   * False: there is no such node. For names that anybody may make up: all that are not known wait for one look, which begins
   * after they were asked for, so that a node that has just joined is in it, and a second after the one before.
   */
  async mayExist(node: string): Promise<boolean> {
    if (node === this.id || this.#known.has(node) || this.#named.has(node)) return true
    if (!this.shared) return false
    return (await this.#standingOf(node, await this.#lookNext())) !== 'dead'
  }

  /** The store names nodes: they need not be looked for. */
  named(nodes: Iterable<string>): void {
    for (const node of nodes) if (node !== this.id) this.#named.add(node)
  }

  /** Sends a text to a node; whether it arrives is not known. */
  send(node: string, text: string): Promise<void> {
    return this.bus.publish(topicOf(node), text)
  }

  /** Sends a text to all nodes, this one among them, by one message. */
  sendToAll(text: string): Promise<void> {
    return this.bus.publish(ALL_NODES, text)
  }

  /** Calls the listener each time the others may have taken this node for dead; with the way to end that. */
  whenDistrusted(listener: () => void): () => void {
    this.#distrustListeners.add(listener)
    return () => void this.#distrustListeners.delete(listener)
  }

  /** Takes this node out of the cluster at once. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#heart.stop()
    if (this.#ready) await this.bus.leave(this.id).catch(() => {})
    await this.#unsubscribe?.().catch(() => {})
  }

  async #start(): Promise<void> {
    // A start that failed after this is tried again, and messages must not arrive twice.
    this.#unsubscribe ??= await this.#subscribe()
    await this.#beat()
    if (this.#closed) return this.#unsubscribe()
    this.#heart.start()
  }

  async #subscribe(): Promise<() => Promise<void>> {
    const topics = [topicOf(this.id), ALL_NODES]
    const subscribed = topics.map((topic) => this.bus.subscribe(topic, (text) => this.onmessage(text)))
    const outcomes = await Promise.allSettled(subscribed)
    const ends = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
    const unsubscribe = async () => void (await Promise.all(ends.map((end) => end())))
    if (ends.length === topics.length) return unsubscribe
    await unsubscribe().catch(() => {})
    await Promise.all(subscribed)
    return unsubscribe
  }

  async #beat(): Promise<void> {
    const before = monotonic()
    await this.#watched(this.bus.beat(this.id, HEARTBEAT_TTL))
    // The others were told that this node has left, and must not take that back.
    if (this.#closed) await this.bus.leave(this.id)
    const silence = monotonic() - (this.#beatAt ?? before)
    this.#beatAt = before
    if (silence <= HEARTBEAT_TTL) return
    this.distrustedAt = monotonic()
    for (const listener of [...this.#distrustListeners]) listener()
  }

  get #isClear(): boolean {
    return this.#clearSince !== undefined && monotonic() - this.#clearSince >= HEARTBEAT_TTL
  }

  async #standingOf(node: string, alive: ReadonlySet<string>): Promise<Standing> {
    if (node === this.id || alive.has(node)) return 'alive'
    if (node === '' || !this.shared || this.#isClear) return 'dead'
    return (await this.bus.isGone?.(node)) ? 'dead' : 'absent'
  }

  #lookNext(): Promise<ReadonlySet<string>> {
    const wait = this.#lookBegan + HEARTBEAT_INTERVAL - monotonic()
    const due = wait > 0 ? new Promise<void>((resolve) => setTimeout(resolve, wait)) : Promise.resolve()
    this.#nextLook ??= due.then(() => {
      this.#nextLook = undefined
      return this.#look()
    })
    return this.#nextLook
  }

  /** The nodes that have a heartbeat now. */
  async #look(): Promise<ReadonlySet<string>> {
    this.#lookBegan = monotonic()
    const alive = new Set(await this.#watched(this.bus.nodes()))
    // A store that has lost this node's heartbeat, which cannot have run out, has lost the others' as well.
    const beatFor = this.#beatAt === undefined ? Number.POSITIVE_INFINITY : monotonic() - this.#beatAt
    if (beatFor < HEARTBEAT_TTL / 2 && !alive.has(this.id)) this.#clearSince = monotonic()
    if (this.#isClear) this.#known.clear()
    for (const node of alive) this.#known.add(node)
    this.#named.clear()
    this.#lastLook = { at: monotonic(), alive }
    return alive
  }

  /** Takes note of whether the store answers, and soon: while it does not, heartbeats run out. */
  async #watched<T>(answer: Promise<T>): Promise<T> {
    const before = monotonic()
    try {
      const result = await answer
      if (monotonic() - before > MAX_STALL) this.#clearSince = monotonic()
      this.#clearSince ??= monotonic()
      return result
    } catch (error) {
      this.#clearSince = undefined
      throw error
    }
  }
}

/** The node that a name was made by. */
export function nodeOf(name: string): string {
  return name.slice(0, name.indexOf(':'))
}

/** Which of its node's names it is: a later name has a higher number. */
export function numberOf(name: string): number {
  return Number(name.slice(name.indexOf(':') + 1))
}

function topicOf(node: string): string {
  return `node:${node}`
}
