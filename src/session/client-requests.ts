/**
 * Requests that a server sends to its client: their ids on the way out and back. Each instance counts its own from 0, on
 * every node; on the wire they must be unique in the session and name the node that asked. Progress tokens and the server's
 * own `cancelled` are rewritten the same way.
 */
import { isObject, isRequest, type JSONRPCNotification, type JSONRPCRequest, type RequestId } from '../wire/jsonrpc.js'

/** Counts for the whole process, so that two instances of a session on this node, one after the other, share no id. */
let count = 0

/** A request as the server knows it. */
interface Asked {
  id: RequestId
  progressToken: unknown
}

export class ClientRequests {
  #asked = new Map<RequestId, Asked>()
  #wireIds = new Map<RequestId, string>()

  constructor(private readonly node: string) {}

  get size(): number {
    return this.#asked.size
  }

  /** A message of the server as it goes out. */
  rewritten(message: JSONRPCRequest | JSONRPCNotification): JSONRPCRequest | JSONRPCNotification {
    if (isRequest(message)) {
      const id = `${this.node}:${(count++).toString(36)}`
      const meta = message.params?._meta
      if (!isObject(meta) || meta.progressToken === undefined) return { ...message, id }
      return { ...message, id, params: { ...message.params, _meta: { ...meta, progressToken: id } } }
    }
    if (message.method !== 'notifications/cancelled') return message
    const id = message.params?.requestId as RequestId
    const wireId = this.#wireIds.get(id)
    if (wireId === undefined) return message
    // nothing is awaited for that request any more
    this.#forget(wireId, id)
    return { ...message, params: { ...message.params, requestId: wireId } }
  }

  /** A request goes out, and an answer is awaited. */
  await(request: JSONRPCRequest, outgoing: JSONRPCRequest): void {
    const meta = request.params?._meta
    const wireId = String(outgoing.id)
    this.#asked.set(wireId, { id: request.id, progressToken: isObject(meta) ? meta.progressToken : undefined })
    this.#wireIds.set(request.id, wireId)
  }

  /** The server's own id for a request that the client answers; undefined: nothing waits for it. */
  answered(wireId: RequestId): RequestId | undefined {
    const asked = this.#asked.get(wireId)
    if (!asked) return undefined
    this.#forget(wireId, asked.id)
    return asked.id
  }

  /** The server's own progress token. */
  progressToken(wireId: unknown): unknown {
    return this.#asked.get(wireId as RequestId)?.progressToken
  }

  #forget(wireId: RequestId, id: RequestId): void {
    this.#asked.delete(wireId)
    if (this.#wireIds.get(id) === wireId) this.#wireIds.delete(id)
  }
}

/** The node that a wire id (or progress token) names; undefined: not one of ours. */
export function askingNode(wireId: unknown): string | undefined {
  return typeof wireId === 'string' && wireId.includes(':') ? wireId.slice(0, wireId.indexOf(':')) : undefined
}
