/** Every HTTP error that this library answers with: the wire table of docs/contract.md, as data. */
import type { RequestId } from './jsonrpc.js'
import type { HttpReply, ReplyHeaders } from './message.js'

/**
 * Status, JSON-RPC code and message. Sections are of the specification 2025-11-25 where no other is named. The codes -32700,
 * -32600 and -32603 are those of JSON-RPC 2.0, section 5.1; -32000 and -32001 are of the range that it leaves to
 * implementations, used as the SDKs' transports use them.
 */
const TABLE = {
  // basic/transports, "Sending Messages to the Server": the body is one JSON-RPC message.
  notJson: [400, -32700, 'Parse error: the body is not JSON'],
  notJsonRpc: [400, -32600, 'Invalid Request: the body is not a JSON-RPC message'],
  // 2025-06-18, changelog: batches were removed.
  batch: [400, -32600, 'Invalid Request: this protocol version has no JSON-RPC batches'],
  // 2025-03-26, basic/lifecycle, "Initialization"
  initializeInBatch: [400, -32600, 'Invalid Request: initialize cannot be part of a batch'],
  // basic, "Requests": an id is used once.
  idInUse: [400, -32600, 'Invalid Request: a request with this id is still running'],
  // basic/lifecycle, "Initialization": it is the first interaction of a session.
  alreadyInitialized: [400, -32600, 'Invalid Request: the session is already initialized'],
  // basic/transports, "Sending Messages to the Server"
  acceptPost: [406, -32000, 'Not Acceptable: the client must accept both application/json and text/event-stream'],
  // basic/transports, "Listening for Messages from the Server"
  acceptGet: [406, -32000, 'Not Acceptable: the client must accept text/event-stream'],
  // Limits of this library, against floods: see limits.ts. RFC 6585, sections 4 and 5, for 429 and 431.
  batchTooLong: [400, -32600, 'Invalid Request: the batch has too many messages'],
  tooDeep: [400, -32600, 'Invalid Request: the body is nested too deeply'],
  idTooLong: [400, -32600, 'Invalid Request: the id, or the progress token, is too long'],
  headerTooLong: [431, -32000, 'Request Header Fields Too Large'],
  tooManySubscriptions: [400, -32600, 'Invalid Request: the session has too many subscriptions'],
  initializeTooLarge: [413, -32000, 'Payload Too Large: initialize says too much of its client'],
  tooManyRequests: [429, -32000, 'Too Many Requests: the session has too many running requests'],
  tooManyStreams: [429, -32000, 'Too Many Requests: the session has too many open streams'],
  tooManySessions: [429, -32000, 'Too Many Requests: too many sessions are in use by this principal'],
  rateLimited: [429, -32000, 'Too Many Requests: too many sessions were begun, try again later'],
  busy: [503, -32603, 'This node is busy, try again'],
  full: [503, -32603, 'This node is full, try again'],
  // RFC 9110, sections 15.5.16 and 15.5.14
  contentType: [415, -32000, 'Unsupported Media Type: Content-Type must be application/json'],
  tooLarge: [413, -32000, 'Payload Too Large'],
  // basic/transports, "Protocol Version Header"
  protocolVersion: [400, -32000, 'Bad Request: unsupported MCP-Protocol-Version'],
  // basic/transports, "Session Management"
  noSessionId: [400, -32000, 'Bad Request: the Mcp-Session-Id header is required; only initialize goes without'],
  notInitialized: [400, -32000, 'Bad Request: the server is not initialized'],
  sessionNotFound: [404, -32001, 'Session not found'],
  // basic/transports, "Resumability and Redelivery"
  lastEventId: [400, -32000, 'Bad Request: no stream of this session goes on from this Last-Event-ID'],
  // basic/transports, "Sending Messages to the Server": what cannot be accepted gets an error instead of 202.
  notAwaited: [400, -32000, 'Bad Request: nothing waits for this response'],
  // basic/transports, "Streamable HTTP" (POST, GET) and "Session Management" (DELETE)
  method: [405, -32000, 'Method Not Allowed'],
  // basic/transports, "Security Warning"
  origin: [403, -32000, 'Forbidden: the Origin header is not allowed'],
  host: [403, -32000, 'Forbidden: the Host header is not allowed'],
  // RFC 9110, sections 15.6.4 and 15.6.1. No word of sessions: `@mastra/mcp` 1 takes that for the end of its own.
  unavailable: [503, -32603, 'The store is unavailable, try again'],
  unreached: [503, -32603, 'The node that this message is for does not answer, try again'],
  draining: [503, -32603, 'This node is shutting down, try again'],
  internal: [500, -32603, 'Internal error'],
} as const satisfies Record<string, readonly [status: number, code: number, message: string]>

export type RefusalName = keyof typeof TABLE

/**
 * Headers that go with some of them (RFC 9110, sections 10.2.1 and 10.2.3). The connection that brings a body that is too large
 * is of no further use.
 */
const HEADERS: Partial<Record<RefusalName, ReplyHeaders>> = {
  method: { allow: 'GET, POST, DELETE' },
  tooManyRequests: { 'retry-after': '1' },
  tooManyStreams: { 'retry-after': '1' },
  tooManySessions: { 'retry-after': '1' },
  rateLimited: { 'retry-after': '1' },
  busy: { 'retry-after': '1' },
  full: { 'retry-after': '1' },
  unavailable: { 'retry-after': '1' },
  unreached: { 'retry-after': '1' },
  draining: { 'retry-after': '1' },
  tooLarge: { connection: 'close' },
}

/** Thrown to answer a request with an error of the wire table. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  /** Seconds that the client should wait, where the table does not say it. */
  readonly retryAfter: number | undefined

  constructor(
    readonly reason: RefusalName,
    options?: { cause?: unknown; retryAfter?: number },
  ) {
    super(TABLE[reason][2], options)
    this.retryAfter = options?.retryAfter
  }

  get status(): number {
    return TABLE[this.reason][0]
  }

  get code(): number {
    return TABLE[this.reason][1]
  }
}

/**
 * Answers a request as the table says.
 *
 * @param id Of the JSON-RPC request, to be echoed; undefined: it could not be read, or there is none.
 */
export function refuse(reply: HttpReply, refusal: Refusal, id: RequestId | undefined, sessionId?: string): void {
  const headers: ReplyHeaders = { 'content-type': 'application/json', ...HEADERS[refusal.reason] }
  if (refusal.retryAfter !== undefined) headers['retry-after'] = String(refusal.retryAfter)
  if (sessionId !== undefined) headers['mcp-session-id'] = sessionId
  const body = { jsonrpc: '2.0', error: { code: refusal.code, message: refusal.message }, id: id ?? null }
  reply.send(refusal.status, headers, JSON.stringify(body))
}
