/** What `onerror` is told once, and not with each request that is like it. */
import type { Backend } from '../backend/backend.js'

/** Values of one topic: strangers can send as many as they like. */
const MAX_VALUES = 16

export class Notices {
  readonly #told = new Map<string, Set<string>>()

  constructor(private readonly onerror: (error: Error) => void) {}

  /** Tells of the first occurrence of each value of a topic, and of no more than a few values. */
  once(topic: string, value: string, message: () => string): void {
    const told = this.#told.get(topic) ?? new Set()
    if (told.size >= MAX_VALUES || told.has(value)) return
    this.#told.set(topic, told.add(value))
    this.onerror(new Error(message()))
  }
}

const shared = new WeakMap<Backend, Notices>()

/** Those of all transports on a backend: each session has a transport of its own. */
export function sharedNotices(backend: Backend | undefined, onerror: (error: Error) => void): Notices {
  const notices = (backend && shared.get(backend)) ?? new Notices(onerror)
  if (backend) shared.set(backend, notices)
  return notices
}
