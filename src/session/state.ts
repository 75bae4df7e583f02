/** `currentSession().state`: JSON values in the session store, updated by compare-and-set. */
import { OWN_STATE, type SessionStore, type StateEntry, type StateLimit } from '../backend/backend.js'
import { Unavailable, Unreadable } from '../backend/unavailable.js'
import type { Limits } from '../wire/limits.js'
import type { SessionState } from './session.js'

/** Characters of JSON text that one value may have. */
export const MAX_STATE_VALUE = 1024 * 1024

export type StateLimits = Pick<Limits, 'stateKeys' | 'state'>

export class StoredState implements SessionState {
  constructor(
    private readonly store: SessionStore,
    private readonly session: string,
    /** Of the user's values. Undefined: for this library, which reaches its own values, too, and is not limited. */
    private readonly limits: StateLimits | undefined,
  ) {}

  async get<T>(key: string): Promise<T | undefined> {
    const entry = await this.#read(key)
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
      const entry = await this.#read(key)
      const value = change(entry && (JSON.parse(entry.value) as T))
      const text = value === undefined ? undefined : serialize(key, value)
      if (await this.#write(key, text, entry?.revision ?? 0)) return value
    }
  }

  async #read(key: string): Promise<StateEntry | undefined> {
    const { getState } = this.#methods(key)
    try {
      return await getState(this.session, key)
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error
      // Servers tell clients the message of what their tools throw, and that of the cause is for the operator.
      throw new Unavailable(`state: the value of ${JSON.stringify(key)} cannot be read`, { cause: error })
    }
  }

  async #write(key: string, value: string | undefined, expected?: number): Promise<boolean> {
    const outcome = await this.#methods(key).setState(this.session, key, value, expected, this.#limit)
    switch (outcome) {
      case 'gone':
        throw new Error('state: the session does not exist (yet, or any more)')
      case 'too-many':
        throw new RangeError(
          `state: no room for ${JSON.stringify(key)}, the session has as many keys as limits.stateKeys allows: ${this.limits?.stateKeys}`,
        )
      case 'too-large':
        throw new RangeError(
          `state: no room for this value of ${JSON.stringify(key)}, all of the session would have more characters than limits.state allows: ${this.limits?.state}`,
        )
      default:
        return outcome === 'ok'
    }
  }

  /** Undefined where nothing is to be counted. */
  get #limit(): StateLimit | undefined {
    const { stateKeys: keys, state: size } = this.limits ?? { stateKeys: Infinity, state: Infinity }
    return keys === Infinity && size === Infinity ? undefined : { keys, size }
  }

  #methods(key: string): Required<Pick<SessionStore, 'getState' | 'setState'>> {
    if (this.limits && key.startsWith(OWN_STATE)) {
      throw new TypeError(`state: keys that begin with ${OWN_STATE} are for mcp-roam itself`)
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
