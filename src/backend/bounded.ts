/** A backend whose every answer comes within a time limit, or is an {@link Unavailable}. */
import { within } from '../util/within.js'
import { isObject } from '../wire/jsonrpc.js'
import type { Backend, CompleteBackend, SessionRecord, SessionStore } from './backend.js'
import { memory } from './memory.js'
import { problemWith } from './record.js'
import { Unavailable, Unreadable } from './unavailable.js'

export { Unavailable } from './unavailable.js'

/** A backend with nothing left out but state, which the user's store may not have. */
export interface BoundedBackend extends Omit<CompleteBackend, 'sessions'> {
  readonly sessions: BoundedStore
  /** Whether other nodes can be on the bus. */
  readonly shared: boolean
  /** Whether what is stored is encrypted, so that any of it may turn out to be unreadable. */
  readonly sealed?: boolean
}

export interface BoundedStore extends SessionStore {
  /** @param which `all`: with those that cannot be served, see {@link problemWith}; of these only `id` and `createdAt` are known. */
  list(which?: 'all'): AsyncIterable<SessionRecord>
}

/**
 * Puts a time limit on everything that a backend is asked, `close` included: nobody who shuts down should have to wait for a
 * backend that is away. Of a listing each step is limited by itself, and the time that its consumer takes does not count.
 *
 * A record that a later version of this library wrote, or that is damaged, is there and cannot be served: `load` rejects with
 * {@link Unavailable}, so that nobody concludes that its session is gone. `list` skips it and goes on, and reports how many it
 * skipped.
 *
 * @param given What the user handed in; the memory of this process takes the place of what it lacks.
 * @param timeout Longest wait for one answer, in milliseconds.
 * @param onerror Told of each {@link Unavailable}, and of listings that skipped something.
 */
export function bounded(
  given: (Backend & { readonly sealed?: boolean }) | undefined,
  timeout: number,
  onerror: (error: Error) => void,
): BoundedBackend {
  const backend = given ?? memory()
  const local = memory()
  const { sessions, events = local.events, bus = local.bus } = backend
  const { look, release, getState, setState } = sessions

  const call: Call = async (method, ask) => {
    try {
      return await within(timeout, ask())
    } catch (cause) {
      const error = cause instanceof Unreadable ? cause : new Unavailable(`backend: ${method} failed`, { cause })
      onerror(error)
      throw error
    }
  }

  return {
    name: backend.name ?? 'custom',
    shared: given?.bus !== undefined,
    sealed: given?.sealed === true,
    sessions: {
      create: (record, ttl, holder) => call('create', () => sessions.create(record, ttl, holder)),
      load: (id, holder) =>
        call('load', async () => {
          const session = await sessions.load(id, holder)
          const problem = session && problemWith(session.record, id)
          if (problem) throw problem
          return session
        }),
      ...(look && { look: (ids) => call('look', () => look.call(sessions, ids)) }),
      ...(release && { release: (id, holders) => call('release', () => release.call(sessions, id, holders)) }),
      update: (record, expected, ttl) => call('update', () => sessions.update(record, expected, ttl)),
      touch: (id, ttl) => call('touch', () => sessions.touch(id, ttl)),
      delete: (id) => call('delete', () => sessions.delete(id)),
      list: (which) => listStepByStep(sessions, call, onerror, which),
      ...(getState && { getState: (id, key) => call('getState', () => getState.call(sessions, id, key)) }),
      ...(setState && {
        setState: (id, key, value, expected, limit) =>
          call('setState', () => setState.call(sessions, id, key, value, expected, limit)),
      }),
    },
    events: {
      ...(events.ttl !== undefined && { ttl: events.ttl }),
      open: (session, stream, init) => call('open', () => events.open(session, stream, init)),
      append: (session, stream, batch) => call('append', () => events.append(session, stream, batch)),
      read: (session, stream, after, max) => call('read', () => events.read(session, stream, after, max)),
      attach: (session, stream, reader) => call('attach', () => events.attach(session, stream, reader)),
      sent: (session, stream, position) => call('sent', () => events.sent(session, stream, position)),
      claim: (session, stream, writer, from) => call('claim', () => events.claim(session, stream, writer, from)),
      look: (streams) => call('look', () => events.look(streams)),
      keep: (streams) => call('keep', () => events.keep(streams)),
      delete: (session) => call('delete', () => events.delete(session)),
    },
    bus: {
      publish: (topic, message) => call('publish', () => bus.publish(topic, message)),
      subscribe: async (topic, listener) => {
        const subscribed = (async () => bus.subscribe(topic, listener))()
        try {
          return await call('subscribe', () => subscribed)
        } catch (error) {
          // It may still be made, and nobody would end it.
          subscribed.then((unsubscribe) => unsubscribe()).catch(() => {})
          throw error
        }
      },
      beat: (node, ttl) => call('beat', () => bus.beat(node, ttl)),
      leave: (node) => call('leave', () => bus.leave(node)),
      nodes: () => call('nodes', () => bus.nodes()),
      ...(bus.isGone && { isGone: (node) => call('isGone', () => bus.isGone?.(node) ?? Promise.resolve(false)) }),
    },
    ping: () => call('ping', async () => backend.ping?.()),
    close: () => call('close', async () => backend.close?.()),
  }
}

/** Asks the backend something, within the time limit. */
type Call = <T>(method: string, ask: () => Promise<T>) => Promise<T>

async function* listStepByStep(
  sessions: SessionStore,
  call: Call,
  onerror: (error: Error) => void,
  which?: 'all',
): AsyncGenerator<SessionRecord> {
  const records = await call('list', async () => sessions.list()[Symbol.asyncIterator]())
  const stop = async () => {
    await records.return?.()
  }
  let isLeftEarly = true
  let skipped = 0
  let cause: Error | undefined
  try {
    for (;;) {
      const step = await call('list', () => records.next())
      if (step.done) {
        isLeftEarly = false
        return
      }
      const problem = problemWith(step.value)
      if (!problem || (which === 'all' && isObject(step.value))) {
        yield step.value
        continue
      }
      skipped++
      cause ??= problem
    }
  } catch (error) {
    isLeftEarly = false
    // Nobody waits for this: a store that is late with its next record would be late with this as well.
    stop().catch(() => {})
    throw error
  } finally {
    if (skipped > 0) onerror(new Error(`backend: list skipped ${skipped} session records`, { cause }))
    // The consumer has what it wanted; a store that fails now is reported, and no reason to throw.
    if (isLeftEarly) await call('list', stop).catch(() => {})
  }
}
