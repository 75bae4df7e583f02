/**
 * Time that passes only when a test says so, and fast: hours cost what happens in them. Timers belong to the simulated node that
 * set them, so that a node can be killed or paused with all that it had in mind.
 */
import { AsyncLocalStorage } from 'node:async_hooks'

const realImmediate = globalThis.setImmediate

/** Lets everything happen that needs no timer. */
export const settled = (): Promise<void> => new Promise((resolve) => realImmediate(resolve))

interface Event {
  at: number
  order: number
  owner: Owner | undefined
  run: (() => void) | undefined
  /** Undefined for what is no timer. */
  set?: SetAt
}

/** Where a timer was set, by its stack. */
export class SetAt extends Error {
  constructor(readonly repeats: boolean) {
    super()
  }
}

/** A timer of a node. */
interface TimerEvent extends Event {
  owner: Owner
  set: SetAt
}

/** How far a node's clock may be ahead of the others in all, in ms: less than would make it take the others for dead. */
const MAX_AHEAD = 2000
/** Frames of a stack that are kept of whoever sets a timer. */
const FRAMES = 8

/** Whose timers and deliveries these are: a node. */
export class Owner {
  dead = false
  diedAt = Number.POSITIVE_INFINITY
  paused = false
  /** What its time of day is ahead of everybody else's, in ms. */
  skew = 0
  /** How much more time than for everybody else has passed for it, in ms. */
  ahead = 0
  readonly held: Event[] = []

  constructor(readonly name: string) {}
}

const current = new AsyncLocalStorage<Owner>()

/** What replaces a `NodeJS.Timeout`. */
class Timer {
  constructor(
    readonly clock: VirtualClock,
    public event: Event,
  ) {}

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  hasRef(): boolean {
    return false
  }

  cancel(): void {
    this.event.run = undefined
  }
}

const GLOBALS = [
  'setTimeout',
  'clearTimeout',
  'setInterval',
  'clearInterval',
  'setImmediate',
  'clearImmediate',
] as const

export class VirtualClock {
  /** Ms since the epoch, of whoever has no clock of its own. */
  now = Date.UTC(2026, 0, 1)
  #heap: Event[] = []
  #order = 0
  #restore: (() => void) | undefined

  /** Replaces timers, `Date.now`, `performance.now` and `Math.random`, until `uninstall`. */
  install(random: () => number): void {
    const saved = Object.fromEntries(GLOBALS.map((name) => [name, globalThis[name]]))
    const { now } = Date
    const { random: realRandom } = Math
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = FRAMES
    Math.random = random
    const start = this.now
    const later = (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) =>
      new Timer(
        this,
        this.#add(this.now + Math.max(1, ms), current.getStore(), () => run(...args), new SetAt(false)),
      )
    const cancel = (timer: unknown) => {
      if (timer instanceof Timer) timer.cancel()
    }
    Object.assign(globalThis, {
      setTimeout: later,
      clearTimeout: cancel,
      setImmediate: (run: (...args: unknown[]) => void, ...args: unknown[]) =>
        new Timer(
          this,
          this.#add(this.now, current.getStore(), () => run(...args)),
        ),
      clearImmediate: cancel,
      setInterval: (run: (...args: unknown[]) => void, ms = 1, ...args: unknown[]) => {
        const owner = current.getStore()
        const set = new SetAt(true)
        const again = () => {
          timer.event = this.#add(this.now + Math.max(1, ms), owner, again, set)
          run(...args)
        }
        const timer = new Timer(this, this.#add(this.now + Math.max(1, ms), owner, again, set))
        return timer
      },
      clearInterval: cancel,
    })
    const ahead = () => current.getStore()?.ahead ?? 0
    Date.now = () => Math.floor(this.now + ahead()) + (current.getStore()?.skew ?? 0)
    Object.defineProperty(performance, 'now', {
      value: () => this.now + ahead() - start + 1000,
      configurable: true,
    })
    this.#restore = () => {
      Object.assign(globalThis, saved)
      Date.now = now
      Math.random = realRandom
      Error.stackTraceLimit = stackTraceLimit
      Reflect.deleteProperty(performance, 'now')
    }
  }

  uninstall(): void {
    this.#restore?.()
    this.#restore = undefined
    this.#heap = []
  }

  /** Does something after `ms`, as something that happens to `owner`. */
  after(ms: number, owner: Owner | undefined, run: () => void): void {
    this.#add(this.now + ms, owner, run)
  }

  /** Lets time pass. */
  async pass(ms: number): Promise<void> {
    const until = this.now + ms
    for (;;) {
      await settled()
      let next = this.#heap[0]
      while (next && (next.run === undefined || next.owner?.dead)) {
        this.#pop()
        next = this.#heap[0]
      }
      if (!next || next.at > until) break
      this.#pop()
      this.now = Math.max(this.now, next.at)
      const { owner, run } = next
      if (owner?.paused) owner.held.push(next)
      else if (owner) current.run(owner, run as () => void)
      else current.exit(run as () => void)
    }
    this.now = until
  }

  /** The timers of a node, the next one first; none while it does nothing. */
  timers(owner: Owner): TimerEvent[] {
    if (owner.dead || owner.paused) return []
    const isTimer = (event: Event): event is TimerEvent => event.owner === owner && !!event.run && !!event.set
    return this.#heap.filter(isTimer).sort((one, other) => (before(one, other) ? -1 : 1))
  }

  /**
   * Runs what a timer does at once, and nothing else: its node's clock goes on to when it is due, or not at all, for it may
   * have been set earlier than it was.
   */
  fire(event: TimerEvent, clockGoesOn: boolean): void {
    const { owner, run } = event
    if (!run) return
    event.run = undefined
    if (clockGoesOn) owner.ahead = Math.min(MAX_AHEAD, owner.ahead + Math.max(0, event.at - this.now))
    current.run(owner, run)
  }

  /** Lets time pass until something is so; false: it never was. */
  async until(is: () => boolean, ms: number, step = 50): Promise<boolean> {
    for (let passed = 0; passed < ms; passed += step) {
      await settled()
      if (is()) return true
      await this.pass(step)
    }
    return is()
  }

  /** Runs code as the node's. */
  as<T>(owner: Owner, work: () => T): T {
    return current.run(owner, work)
  }

  pause(owner: Owner): void {
    owner.paused = true
  }

  resume(owner: Owner): void {
    owner.paused = false
    for (const event of owner.held.splice(0)) this.#push({ ...event, ...this.#due(event) })
  }

  kill(owner: Owner): void {
    owner.dead = true
    owner.diedAt = Math.min(owner.diedAt, this.now)
    owner.held.length = 0
  }

  #due(event: Event): Pick<Event, 'at' | 'order' | 'run'> {
    // a timer that is cancelled later is cancelled by the event that it knows
    return { at: this.now, order: this.#order++, run: () => event.run?.() }
  }

  #add(at: number, owner: Owner | undefined, run: () => void, set?: SetAt): Event {
    const event: Event = { at, order: this.#order++, owner, run, ...(set && { set }) }
    this.#push(event)
    return event
  }

  #push(event: Event): void {
    const heap = this.#heap
    let index = heap.push(event) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!before(event, heap[parent]!)) break
      heap[index] = heap[parent]!
      index = parent
    }
    heap[index] = event
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()!
    if (heap.length === 0) return
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, last)) break
      heap[index] = heap[child]!
      index = child
    }
    heap[index] = last
  }
}

function before(one: Event, other: Event): boolean {
  return one.at < other.at || (one.at === other.at && one.order < other.order)
}
