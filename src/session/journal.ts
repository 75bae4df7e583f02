/** The client messages that define protocol state: which they are, what remains of them, and how they are replayed. */
import type { Journal } from '../backend/backend.js'
import type { JSONRPCMessage, JSONRPCNotification, JSONRPCRequest } from '../wire/jsonrpc.js'

/** 2025-11-25, server/utilities/logging, "Log Levels" */
const LOG_LEVELS = new Set<unknown>(['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'])

const STATE_BEARING = new Set(['logging/setLevel', 'resources/subscribe', 'resources/unsubscribe'])

/** Whether a request changes what a later instance has to be told. */
export function isStateBearing(message: JSONRPCMessage): message is JSONRPCRequest {
  return 'method' in message && STATE_BEARING.has(message.method)
}

/**
 * The journal with a message added; the same journal if the message changes nothing. It takes what a restore needs and no more:
 * it is kept in memory and in the store, whatever else a client has put into the message.
 */
export function journalled(journal: Journal, message: JSONRPCRequest | JSONRPCNotification): Journal {
  const { level, uri } = message.params ?? {}
  switch (message.method) {
    case 'notifications/initialized':
      return journal.initialized ? journal : { ...journal, initialized: true }
    case 'logging/setLevel':
      if (!LOG_LEVELS.has(level) || journal.setLevel?.level === level) return journal
      return { ...journal, setLevel: { level } }
    case 'resources/subscribe': {
      if (typeof uri !== 'string' || journal.subscriptions.includes(uri)) return journal
      return { ...journal, subscriptions: [...journal.subscriptions, uri] }
    }
    case 'resources/unsubscribe': {
      if (typeof uri !== 'string' || !journal.subscriptions.includes(uri)) return journal
      return { ...journal, subscriptions: journal.subscriptions.filter((subscribed) => subscribed !== uri) }
    }
    default:
      return journal
  }
}

/** Whether a restore from one is like a restore from the other, `initialize` being the same. */
export function isSameJournal(a: Journal, b: Journal): boolean {
  return (
    a.initialized === b.initialized &&
    a.setLevel?.level === b.setLevel?.level &&
    a.subscriptions.length === b.subscriptions.length &&
    a.subscriptions.every((uri, index) => uri === b.subscriptions[index])
  )
}

/** What is left to tell an instance that knows `from` (undefined: nothing yet) so that it knows `to`. */
export function replay(from: Journal | undefined, to: Journal): Pick<JSONRPCRequest, 'method' | 'params'>[] {
  const messages: Pick<JSONRPCRequest, 'method' | 'params'>[] = []
  if (!from) messages.push({ method: 'initialize', params: to.initialize })
  if (to.initialized && !from?.initialized) messages.push({ method: 'notifications/initialized' })
  if (to.setLevel && to.setLevel.level !== from?.setLevel?.level) {
    messages.push({ method: 'logging/setLevel', params: to.setLevel })
  }
  const before = new Set(from?.subscriptions)
  const after = new Set(to.subscriptions)
  for (const uri of after) if (!before.has(uri)) messages.push({ method: 'resources/subscribe', params: { uri } })
  for (const uri of before) if (!after.has(uri)) messages.push({ method: 'resources/unsubscribe', params: { uri } })
  return messages
}
