/** A backend in memory behind a network that is slow, loses things, and comes between any node and the rest when it is told to. */
import { memory } from '../../src/backend/memory.js'
import type { Backend, EventLog, Retention, SessionStore } from '../../src/index.js'
import type { Owner, VirtualClock } from './clock.js'

/**
 * `rejects`: nothing is done. `hangs`: nothing is done, and nothing said. `flaky`: of three calls one is not done, one is done
 * and its answer lost, one succeeds.
 */
export type StoreTrouble = 'none' | 'rejects' | 'hangs' | 'flaky'

interface Subscriber {
  owner: Owner
  listener: (message: string) => void
}

export class Network {
  /** What a perfect observer sees. */
  readonly truth: Required<Pick<Backend, 'sessions' | 'events' | 'bus'>>
  store: StoreTrouble = 'none'
  /** Share of messages between nodes that are lost. */
  loss = 0
  /** Share of messages between nodes that arrive twice. */
  duplication = 0
  /** Nodes that reach nothing. */
  readonly cutOff = new Set<Owner>()
  /** Called when a call arrives at the backend, before it is done; what it returns is waited for. */
  interfere: ((node: string, what: string, args: readonly unknown[]) => Promise<void> | undefined) | undefined
  /** Called when a call was done, before its answer leaves. */
  afterwards: ((node: string, what: string, args: readonly unknown[]) => Promise<void> | undefined) | undefined
  #subscribers = new Map<string, Set<Subscriber>>()

  constructor(
    readonly clock: VirtualClock,
    readonly random: () => number,
    retention?: Retention,
  ) {
    const { sessions, events, bus } = memory({ now: () => clock.now, ...(retention && { retention }) })
    this.truth = { sessions, events: events!, bus: bus! }
  }

  /** Most messages take no time; some so long that others overtake them. */
  latency = (): number => {
    const dice = this.random()
    if (dice < 0.6) return 0
    return dice < 0.92 ? Math.floor(this.random() * 5) : Math.floor(this.random() * 30)
  }

  get troubled(): boolean {
    return this.store !== 'none' || this.loss > 0 || this.duplication > 0 || this.cutOff.size > 0
  }

  /** The backend as a node has it. */
  backendOf(owner: Owner): Backend {
    const { sessions, events, bus } = this.truth
    const wrap = <T extends object>(part: string, target: T): T =>
      new Proxy(target, {
        get: (object, property) => {
          const member: unknown = Reflect.get(object, property)
          if (typeof member !== 'function' || property === 'list') return member
          const what = `${part}.${String(property)}`
          return (...args: unknown[]) => this.#call(owner, what, args, () => member.apply(object, args))
        },
      })
    return {
      name: 'simulated',
      sessions: wrap<SessionStore>('sessions', sessions),
      events: wrap<EventLog>('events', events),
      bus: {
        beat: (node, ttl) => this.#call(owner, 'bus.beat', [node, ttl], () => bus.beat(node, ttl)),
        leave: (node) => this.#call(owner, 'bus.leave', [node], () => bus.leave(node)),
        nodes: () => this.#call(owner, 'bus.nodes', [], () => bus.nodes()),
        publish: (topic, message) =>
          this.#call(owner, 'bus.publish', [topic, message], async () => this.#publish(topic, message)),
        subscribe: (topic, listener) =>
          this.#call(owner, 'bus.subscribe', [topic], async () => {
            const subscriber = { owner, listener }
            const all = this.#subscribers.get(topic) ?? new Set()
            this.#subscribers.set(topic, all.add(subscriber))
            return async () => void all.delete(subscriber)
          }),
      },
    }
  }

  /** A node's connections are gone. */
  forget(owner: Owner): void {
    for (const all of this.#subscribers.values()) {
      for (const subscriber of [...all]) if (subscriber.owner === owner) all.delete(subscriber)
    }
  }

  #publish(topic: string, message: string): void {
    for (const { owner, listener } of [...(this.#subscribers.get(topic) ?? [])]) {
      const copies = this.random() < this.duplication ? 2 : 1
      for (let copy = 0; copy < copies; copy++) {
        if (this.random() < this.loss || this.cutOff.has(owner)) continue
        this.clock.after(this.latency(), owner, () => listener(message))
      }
    }
  }

  #call<T>(owner: Owner, what: string, args: readonly unknown[], work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (owner.dead) return
      const answer = (settle: () => void) => this.clock.after(this.latency(), owner, settle)
      const fail = (reason: string) => answer(() => reject(new Error(`${what}: ${reason}`)))
      const arrive = async () => {
        const trouble = this.cutOff.has(owner) ? 'hangs' : this.store
        const dice = trouble === 'flaky' ? this.random() : 1
        if (trouble === 'hangs') return
        if (trouble === 'rejects' || dice < 1 / 3) return fail('refused')
        try {
          await this.interfere?.(owner.name, what, args)
          const value = await work()
          await this.afterwards?.(owner.name, what, args)
          if (dice < 2 / 3) fail('the answer was lost')
          else answer(() => resolve(value))
        } catch (error) {
          answer(() => reject(error))
        }
      }
      this.clock.after(this.latency(), undefined, () => void arrive())
    })
  }
}
