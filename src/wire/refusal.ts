/** Every HTTP error this library answers with: the wire table of docs/contract.md, as data. */
import type { RequestId } from './jsonrpc.js'
import type { HttpReply, ReplyHeaders } from './message.js'

const TABLE = {
  notJson: [400, -32700, 'Parse error: the body is not JSON'],
  notJsonRpc: [400, -32600, 'Invalid Request: the body is not a JSON-RPC message'],
  batch: [400, -32600, 'Invalid Request: this protocol version has no JSON-RPC batches'],
  initializeInBatch: [400, -32600, 'Invalid Request: initialize cannot be part of a batch'],
  idInUse: [400, -32600, 'Invalid Request: a request with this id is still running'],
  alreadyInitialized: [400, -32600, 'Invalid Request: the session is already initialized'],
  acceptPost: [406, -32000, 'Not Acceptable: the client must accept both application/json and text/event-stream'],
  acceptGet: [406, -32000, 'Not Acceptable: the client must accept text/event-stream'],
  contentType: [415, -32000, 'Unsupported Media Type: Content-Type must be application/json'],
  tooLarge: [413, -32000, 'Payload Too Large'],
  protocolVersion: [400, -32000, 'Bad Request: unsupported MCP-Protocol-Version'],
  noSessionId: [400, -32000, 'Bad Request: the Mcp-Session-Id header is required; only initialize goes without'],
  notInitialized: [400, -32000, 'Bad Request: the server is not initialized'],
  sessionNotFound: [404, -32001, 'Session not found'],
  lastEventId: [400, -32000, 'Bad Request: no stream of this session goes on from this Last-Event-ID'],
  notAwaited: [400, -32000, 'Bad Request: nothing waits for this response'],
  tooManySubscriptions: [400, -32600, 'Invalid Request: the session has too many subscriptions'],
  method: [405, -32000, 'Method Not Allowed'],
  origin: [403, -32000, 'Forbidden: the Origin header is not allowed'],
  host: [403, -32000, 'Forbidden: the Host header is not allowed'],
  unavailable: [503, -32603, 'The session store is unavailable, try again'],
  unreached: [503, -32603, 'The node that this message is for does not answer, try again'],
  draining: [503, -32603, 'This node is shutting down, try again'],
  internal: [500, -32603, 'Internal error'],
} as const satisfies Record<string, readonly [status: number, code: number, message: string]>

export type RefusalName = keyof typeof TABLE

const HEADERS: Partial<Record<RefusalName, ReplyHeaders>> = {
  method: { allow: 'GET, POST, DELETE' },
  unavailable: { 'retry-after': '1' },
  unreached: { 'retry-after': '1' },
  draining: { 'retry-after': '1' },
  tooLarge: { connection: 'close' },
}

/** A request that is answered with an error of the wire table. */
export class Refusal extends Error {
  override readonly name = 'Refusal'

  constructor(
    readonly reason: RefusalName,
    options?: { cause?: unknown },
  ) {
    super(TABLE[reason][2], options)
  }

  get status(): number {
    return TABLE[this.reason][0]
  }

  get code(): number {
    return TABLE[this.reason][1]
  }
}

/** Answers with what the table says. */
export function refuse(reply: HttpReply, refusal: Refusal, id: RequestId | undefined, sessionId?: string): void {
  const headers: ReplyHeaders = { 'content-type': 'application/json', ...HEADERS[refusal.reason] }
  if (sessionId !== undefined) headers['mcp-session-id'] = sessionId
  const body = { jsonrpc: '2.0', error: { code: refusal.code, message: refusal.message }, id: id ?? null }
  reply.send(refusal.status, headers, JSON.stringify(body))
}
