/**
 * Requests that a server sends to its client: their ids on the way out and back. Each instance counts its own from 0, on
 * every node; on the wire they must be unique in the session and name the node that asked. Progress tokens and the server's
 * own `cancelled` are rewritten the same way.
 */
import { createHash } from 'node:crypto'
import {
  isObject,
  isRequest,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type JSONRPCResponse,
  type RequestId,
} from '../wire/jsonrpc.js'

/** How many of a client's last responses are remembered, so that one that it repeats is known. */
const MAX_REMEMBERED = 100

/** Counts for the whole process, so that two instances of a session on this node, one after the other, share no id. */
let count = 0

/** A request as the server knows it. */
interface Asked {
  id: RequestId
  /** The client's request that it asked on behalf of. */
  related: RequestId | undefined
  progressToken: unknown
}

export class ClientRequests {
  #asked = new Map<RequestId, Asked>()
  #wireIds = new Map<RequestId, string>()
  /** By wire id, a hash of the response that the server has got, oldest first. */
  readonly #responses = new Map<RequestId, string>()

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
  await(request: JSONRPCRequest, outgoing: JSONRPCRequest, related: RequestId | undefined): void {
    const meta = request.params?._meta
    const wireId = String(outgoing.id)
    this.#asked.set(wireId, { id: request.id, related, progressToken: isObject(meta) ? meta.progressToken : undefined })
    this.#wireIds.set(request.id, wireId)
  }

  /** Whether an answer is awaited to something that was asked on behalf of a request of the client. */
  asksFor(related: RequestId): boolean {
    for (const asked of this.#asked.values()) if (asked.related === related) return true
    return false
  }

  /** What the client answers, as the server asked it; undefined: nothing waits for it. */
  answered(response: JSONRPCResponse): Asked | undefined {
    const wireId = response.id as RequestId
    const asked = this.#asked.get(wireId)
    if (!asked) return undefined
    this.#responses.set(wireId, hashOf(response))
    this.#forget(wireId, asked.id)
    const [oldest] = this.#responses.keys()
    if (oldest !== undefined && this.#responses.size > MAX_REMEMBERED) this.#responses.delete(oldest)
    return asked
  }

  /** Whether the server has got this very response: its client repeats it, for it was not told that it had arrived. */
  isRepeated(response: JSONRPCResponse): boolean {
    const known = this.#responses.get(response.id as RequestId)
    return known !== undefined && known === hashOf(response)
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

function hashOf(response: JSONRPCResponse): string {
  return createHash('sha256').update(JSON.stringify(response)).digest('base64url')
}

/** The node that a wire id (or progress token) names; undefined: not one of ours. */
export function askingNode(wireId: unknown): string | undefined {
  return typeof wireId === 'string' && wireId.includes(':') ? wireId.slice(0, wireId.indexOf(':')) : undefined
}
