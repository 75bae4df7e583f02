/** What the contract suites share: how a case gets its backend, and how it waits. */
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import type { Backend, Retention, SessionRecord } from '../backend/backend.js'

/** One sentence of the contract, and the way to check it. */
export interface ContractCase {
  /** The behaviour that the case proves; a title for your test framework. */
  name: string
  /** Rejects with an `AssertionError` when the backend behaves otherwise. */
  run(): Promise<void>
}

/** What a case works on. */
export interface Subject {
  backend: Backend
  /**
   * A second handle on the same data, as another node would have: a connection, or better a backend, of its own.
   * Default: `backend` itself, and then nothing is proved about two nodes.
   */
  peer?: Backend
  /** Called when the case is over, whether it passed or not: close connections, remove files. Nothing is closed for you. */
  release?(): Promise<void>
}

/** What a case needs of its backend. */
export interface Needs {
  /** For the event log of both handles; undefined: the backend's default. */
  retention?: Retention
}

/**
 * Gives a case its backend. Called once for each case. The backend may be new, or one that all cases share: every id that a
 * case uses is random, and data that others left does not matter.
 */
export type Make = (needs: Needs) => Promise<Subject>

/** The two handles of a case; both the same backend if there is no peer. */
export interface Handles {
  a: Backend
  b: Backend
}

/** Two ways to write a case, bound to the way that backends are made. */
export function casesOf(make: Make) {
  return {
    /** A case that does not depend on how quick the machine is. */
    it: (name: string, body: (handles: Handles) => Promise<void>, needs: Needs = {}): ContractCase => ({
      name,
      run: () => withSubject(make, needs, body),
    }),

    /** A case that must do something before a time to live is over. On a slow machine it begins again with a longer one. */
    timed: (
      name: string,
      body: (handles: Handles, race: Race) => Promise<void>,
      needs: (ttl: number) => Needs = () => ({}),
    ): ContractCase => ({
      name,
      async run() {
        for (let ttl = SHORT; ; ttl *= 4) {
          const race = new Race(ttl)
          try {
            await withSubject(make, needs(ttl), async (handles) => {
              race.start()
              await body(handles, race)
            })
            return
          } catch (error) {
            if (!race.isLost || ttl > SLOWEST) throw error
          }
        }
      },
    }),
  }
}

async function withSubject(make: Make, needs: Needs, body: (handles: Handles) => Promise<void>): Promise<void> {
  const subject = await make(needs)
  try {
    await body({ a: subject.backend, b: subject.peer ?? subject.backend })
  } finally {
    await subject.release?.()
  }
}

/**
 * Tells whether a case was quick enough. What it does between {@link start} and {@link stop} must be done before the `ttl` is
 * over; otherwise its failure proves nothing.
 */
export class Race {
  /** Milliseconds. */
  readonly ttl: number
  #started = 0
  #isOn = false
  #wasLost = false

  constructor(ttl: number) {
    this.ttl = ttl
  }

  /** Begins again. */
  start(): void {
    this.stop()
    this.#started = performance.now()
    this.#isOn = true
  }

  stop(): void {
    this.#wasLost = this.isLost
    this.#isOn = false
  }

  /** True from half the time on, because the backend's time to live begins up to a round trip earlier or later than this clock. */
  get isLost(): boolean {
    return this.#wasLost || (this.#isOn && performance.now() - this.#started >= this.ttl / 2)
  }
}

/** A time to live that is over while a case waits for it, in milliseconds. */
export const BRIEF = 80
/** The time to live that a race begins with, and the one after which it is not tried again, in milliseconds. */
const SHORT = 150
const SLOWEST = 2000
/** A time to live that is not over before the case is, in milliseconds. */
export const LONG = 60_000

/** Resolves once `holds` is true. The clock of a real server cannot be turned, so expiry has to be waited for. */
export async function eventually(
  what: string,
  holds: () => Promise<boolean> | boolean,
  within = 15_000,
): Promise<void> {
  const deadline = performance.now() + within
  while (!(await holds())) {
    if (performance.now() > deadline) assert.fail(`${what}: not within ${within} ms`)
    await pause(4)
  }
}

/** The value, which must be there. */
export function present<T>(value: T | undefined, what: string): T {
  assert.notEqual(value, undefined, `${what} is missing`)
  return value as T
}

/** Runs `task` so many times at once, with each of the two handles in turn. */
export async function atOnce<T>(
  { a, b }: Handles,
  times: number,
  task: (backend: Backend, index: number) => Promise<T>,
): Promise<T[]> {
  return Promise.all(Array.from({ length: times }, (_, index) => task(index % 2 === 0 ? a : b, index)))
}

/** The record that a store has under an id. */
export async function recordOf(
  { sessions }: Pick<Backend, 'sessions'>,
  id: string,
): Promise<SessionRecord | undefined> {
  return (await sessions.load(id))?.record
}
