/** What the body of a POST may hold. Nothing is done with it, and no session looked for, before it has passed. */
import {
  isMessage,
  isObject,
  isRequest,
  isRequestId,
  isResponse,
  type JSONRPCMessage,
  type RequestId,
} from './jsonrpc.js'
import type { Limits } from './limits.js'
import { Refusal } from './refusal.js'

export type BodyLimits = Readonly<Pick<Limits, 'batch' | 'depth' | 'id'>>

/**
 * The message in a body, or the messages of a batch.
 *
 * @throws Refusal if it has no messages, or more of anything than is allowed.
 */
export function messagesIn(body: unknown, { batch, depth, id }: BodyLimits): JSONRPCMessage | JSONRPCMessage[] {
  if (Array.isArray(body) && body.length > batch) throw new Refusal('batchTooLong')
  // First, for a host program may hand over bytes as a body: those have very many members, and are no JSON.
  if (!isBody(body)) throw new Refusal('notJsonRpc')
  if (isDeeperThan(depth, body)) throw new Refusal('tooDeep')
  if (Array.isArray(body) ? body.some((message) => hasLongId(message, id)) : hasLongId(body, id)) {
    throw new Refusal('idTooLong')
  }
  return body
}

/** The id that an error should echo. */
export function idIn(body: unknown, limit: number): RequestId | undefined {
  if (!isObject(body) || !('method' in body) || !isRequestId(body.id)) return undefined
  return isLong(body.id, limit) ? undefined : body.id
}

function isBody(body: unknown): body is JSONRPCMessage | JSONRPCMessage[] {
  return Array.isArray(body) ? body.length > 0 && body.every(isMessage) : isMessage(body)
}

/** Level by level, so that no depth can be too much for this function itself. */
function isDeeperThan(limit: number, body: object): boolean {
  let level = [body]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === limit) return true
    const next: object[] = []
    for (const value of level) {
      for (const member of Array.isArray(value) ? value : Object.values(value)) {
        if (typeof member === 'object' && member !== null) next.push(member)
      }
    }
    level = next
  }
  return false
}

/** Of the ids that a node keeps or looks for. */
function hasLongId(message: JSONRPCMessage, limit: number): boolean {
  if (isResponse(message)) return isLong(message.id, limit)
  const { method, params } = message
  if (isRequest(message)) {
    return isLong(message.id, limit) || (isObject(params?._meta) && isLong(params._meta.progressToken, limit))
  }
  if (method === 'notifications/cancelled') return isLong(params?.requestId, limit)
  return method === 'notifications/progress' && isLong(params?.progressToken, limit)
}

function isLong(id: unknown, limit: number): boolean {
  return typeof id === 'string' && id.length > limit
}
