/**
 * Ids of requests that a server sends to its client. Each instance counts its own from 0, on every node; on the wire they
 * must be unique in the session and tell which node asked. Progress tokens and the server's own `cancelled` go the same way.
 */
import { isObject, type JSONRPCNotification, type JSONRPCRequest, type RequestId } from '../jsonrpc.js'

/** Counts for the whole process, so that no two instances on a node, one after the other, use an id twice. */
let count = 0

interface Asked {
  id: RequestId
  progressToken: unknown
}

export class OutgoingRequests {
  #asked = new Map<RequestId, Asked>()
  #wireIds = new Map<RequestId, string>()

  constructor(private readonly node: string) {}

  get size(): number {
    return this.#asked.size
  }

  /** The request as it goes out. */
  ask(request: JSONRPCRequest): JSONRPCRequest {
    const wireId = `${this.node}:${(count++).toString(36)}`
    const meta = request.params?._meta
    const progressToken = isObject(meta) ? meta.progressToken : undefined
    this.#asked.set(wireId, { id: request.id, progressToken })
    this.#wireIds.set(request.id, wireId)
    if (progressToken === undefined) return { ...request, id: wireId }
    const params = { ...request.params, _meta: { ...(meta as object), progressToken: wireId } }
    return { ...request, id: wireId, params }
  }

  /** The server's own `cancelled` as it goes out; nothing is awaited for that request any more. */
  cancel(notification: JSONRPCNotification): JSONRPCNotification {
    const id = notification.params?.requestId as RequestId
    const wireId = this.#wireIds.get(id)
    if (wireId === undefined) return notification
    this.#forget(wireId, id)
    return { ...notification, params: { ...notification.params, requestId: wireId } }
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
