/** A backend whose every call can be counted, held up, failed or swallowed, so that a test decides who comes first. */
import type { Backend } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'

/** A promise that the test settles. */
export interface Deferred<T> {
  promise: Promise<T>
  resolve(value: T): void
  reject(error: Error): void
}

export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void
  let reject!: (error: Error) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}

/** For `vi.useFakeTimers`: the clock, and what the source waits for by it. */
export const FAKED: ('setTimeout' | 'clearTimeout' | 'setInterval' | 'clearInterval' | 'Date' | 'performance')[] = [
  'setTimeout',
  'clearTimeout',
  'setInterval',
  'clearInterval',
  'Date',
  'performance',
]

/** Lets everything happen that needs no timer and no network. */
export async function quiet(): Promise<void> {
  for (let i = 0; i < 30; i++) await new Promise(setImmediate)
}

/** A call held up on its way. */
export interface Gate {
  /** Resolves, with its arguments, when a call has come to the gate. */
  readonly reached: Promise<readonly unknown[]>
  /** Lets it pass, and every call after it. */
  open(): void
  /** Makes it reject. */
  fail(error?: Error): void
}

type Proceed = () => Promise<unknown>
type Rule = (proceed: Proceed, args: readonly unknown[]) => Promise<unknown>

/** What the calls of one node to a backend are; `what` is e.g. `sessions.load`. */
export class Calls {
  readonly all: string[] = []
  readonly #rules = new Map<string, Rule[]>()

  count(what: string): number {
    return this.all.filter((name) => name === what || name.startsWith(`${what}.`)).length
  }

  reset(): void {
    this.all.length = 0
  }

  /** Holds up the next call before it does its work. */
  hold(what: string): Gate {
    return this.#gate(what, 'before')
  }

  /** Holds up the answer of the next call: its work is done, and nobody knows yet. */
  holdAnswer(what: string): Gate {
    return this.#gate(what, 'after')
  }

  /** Fails calls before they do their work, until the returned function is called. */
  fail(what: string, error = new Error(`${what} is out of order`)): () => void {
    return this.#always(what, () => Promise.reject(error))
  }

  /** Swallows calls: they do nothing, and answer undefined. */
  swallow(what: string): () => void {
    return this.#always(what, async () => undefined)
  }

  /** Answers the next call with a value, in place of the backend. */
  answer(what: string, value: unknown): void {
    this.#once(what, async () => value)
  }

  run(what: string, args: readonly unknown[], proceed: Proceed): Promise<unknown> {
    this.all.push(what)
    const rule = this.#rules.get(what)?.at(-1)
    return rule ? rule(proceed, args) : proceed()
  }

  #gate(what: string, when: 'before' | 'after'): Gate {
    const reached = deferred<readonly unknown[]>()
    const opened = deferred()
    opened.promise.catch(() => {})
    this.#once(what, async (proceed, args) => {
      const done = when === 'after' ? await proceed() : undefined
      reached.resolve(args)
      await opened.promise
      return when === 'after' ? done : proceed()
    })
    return {
      reached: reached.promise,
      open: () => opened.resolve(),
      fail: (error = new Error(`${what} is out of order`)) => opened.reject(error),
    }
  }

  #once(what: string, rule: Rule): void {
    const remove = this.#always(what, (proceed, args) => {
      remove()
      return rule(proceed, args)
    })
  }

  #always(what: string, rule: Rule): () => void {
    const rules = this.#rules.get(what) ?? []
    rules.push(rule)
    this.#rules.set(what, rules)
    return () => {
      const index = rules.indexOf(rule)
      if (index >= 0) rules.splice(index, 1)
    }
  }
}

export interface GatedBackend extends Required<Pick<Backend, 'sessions' | 'events' | 'bus'>> {
  readonly calls: Calls
}

/** One node's way to a backend, which other nodes may share. */
export function gated(inner: Backend = memory()): GatedBackend {
  const calls = new Calls()
  const wrap = <T extends object>(part: string, target: T): T =>
    new Proxy(target, {
      get(object, property) {
        const member: unknown = Reflect.get(object, property)
        if (typeof member !== 'function' || typeof property !== 'string') return member
        const what = `${part}.${property}`
        if (property === 'list') {
          return (...args: unknown[]) => {
            calls.all.push(what)
            return member.apply(object, args)
          }
        }
        return (...args: unknown[]) => calls.run(what, args, () => member.apply(object, args) as Promise<unknown>)
      },
    })
  const local = memory()
  return {
    calls,
    sessions: wrap('sessions', inner.sessions),
    events: wrap('events', inner.events ?? local.events!),
    bus: wrap('bus', inner.bus ?? local.bus!),
  }
}
