/** A backend whose every answer comes within a time limit, or is an {@link Unavailable}. */
import type { Backend, EventLog, MessageBus, SessionRecord, SessionStore } from './backend.js'
import { memory } from './memory.js'

/** The backend failed or took too long; what happened is the cause, and never reaches a client. */
export class Unavailable extends Error {
  override readonly name = 'Unavailable'
}

export interface BoundedBackend {
  /** Whether other nodes can be on the bus. */
  readonly shared: boolean
  readonly name: string
  readonly sessions: SessionStore
  readonly events: EventLog
  readonly bus: MessageBus
  ping(): Promise<void>
  close(): Promise<void>
}

/** What is missing of event log and bus is the process's memory. */
export function bounded(given: Backend | undefined, timeout: number, onerror: (error: Error) => void): BoundedBackend {
  const backend = given ?? memory()
  const local = backend.events && backend.bus ? undefined : memory()
  const limit = async <T>(what: string, answer: Promise<T>): Promise<T> => {
    let timer: NodeJS.Timeout | undefined
    try {
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no answer within ${timeout} ms`)), timeout)
      })
      return await Promise.race([answer, late])
    } catch (cause) {
      const error = new Unavailable(`backend: ${what} failed`, { cause })
      onerror(error)
      throw error
    } finally {
      clearTimeout(timer)
    }
  }
  const call = <T>(what: string, ask: () => Promise<T>): Promise<T> => {
    try {
      return limit(what, ask())
    } catch (error) {
      return limit(what, Promise.reject(error))
    }
  }

  const { sessions } = backend
  const events = backend.events ?? (local?.events as EventLog)
  const bus = backend.bus ?? (local?.bus as MessageBus)
  const { getState, setState } = sessions
  return {
    name: backend.name ?? 'custom',
    shared: given?.bus !== undefined,
    sessions: {
      create: (record, ttl) => call('create', () => sessions.create(record, ttl)),
      load: (id) => call('load', async () => readable(await sessions.load(id))),
      update: (record, ttl) => call('update', () => sessions.update(record, ttl)),
      touch: (id, ttl) => call('touch', () => sessions.touch(id, ttl)),
      delete: (id) => call('delete', () => sessions.delete(id)),
      list: () => sessions.list(),
      ...(getState && { getState: (id, key) => call('getState', () => getState.call(sessions, id, key)) }),
      ...(setState && {
        setState: (id, key, value, expected) =>
          call('setState', () => setState.call(sessions, id, key, value, expected)),
      }),
    },
    events: {
      open: (session, stream, init) => call('open', () => events.open(session, stream, init)),
      append: (session, stream, batch) => call('append', () => events.append(session, stream, batch)),
      read: (session, stream, after, max) => call('read', () => events.read(session, stream, after, max)),
      attach: (session, stream, reader) => call('attach', () => events.attach(session, stream, reader)),
      claim: (session, stream, writer, from) => call('claim', () => events.claim(session, stream, writer, from)),
      delete: (session) => call('delete', () => events.delete(session)),
    },
    bus: {
      publish: (topic, message) => call('publish', () => bus.publish(topic, message)),
      subscribe: (topic, listener) => call('subscribe', () => bus.subscribe(topic, listener)),
      beat: (node, ttl) => call('beat', () => bus.beat(node, ttl)),
      leave: (node) => call('leave', () => bus.leave(node)),
      nodes: () => call('nodes', () => bus.nodes()),
    },
    ping: async () => {
      if (backend.ping) await call('ping', () => backend.ping?.() ?? Promise.resolve())
    },
    close: async () => backend.close?.(),
  }
}

/** A record that a later version of this library wrote is there, and is nothing that this one may serve. */
function readable(record: SessionRecord | undefined): SessionRecord | undefined {
  if (record && record.version !== 1)
    throw new Error(`the record is of version ${record.version}, which is not known here`)
  return record
}
