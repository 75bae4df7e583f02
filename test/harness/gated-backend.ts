/** A backend whose every call can be counted, held up, failed or swallowed, so that a test decides who comes first. */
import type { Backend } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import { deferred } from './time.js'

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
    return this.replace(what, () => Promise.reject(error))
  }

  /** Does something else in place of calls, until the returned function is called; `what` may be a whole part, e.g. `sessions`. */
  replace(what: string, rule: () => Promise<unknown>): () => void {
    return this.#always(what, rule)
  }

  /** Changes the answers of calls, until the returned function is called. */
  change(what: string, change: (answer: unknown) => unknown): () => void {
    return this.#always(what, async (proceed) => change(await proceed()))
  }

  run(what: string, args: readonly unknown[], proceed: Proceed): Promise<unknown> {
    this.all.push(what)
    const rule = this.#rules.get(what)?.at(-1) ?? this.#rules.get(what.split('.')[0] ?? '')?.at(-1)
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
        const proceed = async (args: unknown[]) => {
          const result: unknown = await member.apply(object, args)
          return property === 'subscribe' ? counted(result as () => Promise<void>) : result
        }
        return (...args: unknown[]) => calls.run(what, args, () => proceed(args))
      },
    })
  const counted = (unsubscribe: () => Promise<void>) => () => calls.run('bus.unsubscribe', [], unsubscribe)
  const local = memory()
  return {
    calls,
    sessions: wrap('sessions', inner.sessions),
    events: wrap('events', inner.events ?? local.events!),
    bus: wrap('bus', inner.bus ?? local.bus!),
  }
}
