/** `currentSession().state`: JSON values in the session store, updated by compare-and-set. */
import type { SessionStore } from '../backend/backend.js'
import type { SessionState } from './session.js'

/** Characters of JSON text that one value may have. */
export const MAX_STATE_VALUE = 1024 * 1024

/** How the keys of values begin that are not the user's. */
const RESERVED = 'mcp-roam:'

export class StoredState implements SessionState {
  constructor(
    private readonly store: SessionStore,
    private readonly session: string,
    /** Whose values are within reach. */
    private readonly reach: 'users' | 'all' = 'users',
  ) {}

  async get<T>(key: string): Promise<T | undefined> {
    const entry = await this.#methods(key).getState(this.session, key)
    return entry && (JSON.parse(entry.value) as T)
  }

  async set(key: string, value: unknown): Promise<void> {
    await this.#write(key, serialize(key, value))
  }

  async delete(key: string): Promise<void> {
    await this.#write(key, undefined)
  }

  async update<T>(key: string, change: (value: T | undefined) => T | undefined): Promise<T | undefined> {
    for (;;) {
      const entry = await this.#methods(key).getState(this.session, key)
      const value = change(entry && (JSON.parse(entry.value) as T))
      const text = value === undefined ? undefined : serialize(key, value)
      if (await this.#write(key, text, entry?.revision ?? 0)) return value
    }
  }

  async #write(key: string, value: string | undefined, expected?: number): Promise<boolean> {
    const outcome = await this.#methods(key).setState(this.session, key, value, expected)
    if (outcome === 'gone') throw new Error('state: the session does not exist (yet, or any more)')
    return outcome === 'ok'
  }

  #methods(key: string): Required<Pick<SessionStore, 'getState' | 'setState'>> {
    if (this.reach === 'users' && key.startsWith(RESERVED)) {
      throw new TypeError(`state: keys that begin with ${RESERVED} are for mcp-roam itself`)
    }
    const { getState, setState } = this.store
    if (!getState || !setState) throw new Error('state: this session store has no getState and setState')
    return { getState, setState }
  }
}

function serialize(key: string, value: unknown): string {
  const text: string | undefined = JSON.stringify(value)
  if (text === undefined)
    throw new TypeError(`state: the value of ${JSON.stringify(key)} is not JSON; to remove it use delete()`)
  if (text.length > MAX_STATE_VALUE) {
    throw new RangeError(
      `state: the value of ${JSON.stringify(key)} has ${text.length} characters, more than ${MAX_STATE_VALUE}`,
    )
  }
  return text
}
