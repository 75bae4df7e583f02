/**
 * Any backend with what it is given encrypted, and what it gives checked. Whoever can read it finds ids, names and times;
 * whoever can write it can take things away, and put none in.
 */
import type { Backend } from './backend.js'
import { sealedBus } from './sealed/bus.js'
import { sealedEvents } from './sealed/events.js'
import type { Keyring } from './sealed/keyring.js'
import { sealedSessions } from './sealed/sessions.js'

/** Where it is `sealed`, any of its contents may turn out to be unreadable. */
export interface SealedBackend extends Backend {
  readonly sealed: boolean
}

/**
 * Without keys it is as it was, and says of what is encrypted that it is. What is there and cannot be read is an `Unreadable`. Of a listing it is an `UnreadRecord` in its place.
 *
 * @param onerror Told of messages that were dropped.
 */
export function sealed(backend: Backend, keyring: Keyring, onerror: (error: Error) => void): SealedBackend {
  const { name, sessions, events, bus } = backend
  return {
    sealed: keyring.hasKeys,
    ...(name !== undefined && { name }),
    sessions: sealedSessions(sessions, keyring),
    ...(events && { events: sealedEvents(events, keyring) }),
    ...(bus && { bus: sealedBus(bus, keyring, onerror) }),
    ping: async () => backend.ping?.(),
    close: async () => backend.close?.(),
  }
}
