/** What we use of the SDKs, structurally: types of both lines fit without a cast. */
import type { JSONRPCMessage, RequestId } from './jsonrpc.js'

/**
 * Verified auth of a request; the same shape as the SDKs'. This library verifies nothing: the host program does, before it
 * hands a request over (2025-11-25, basic/authorization, "Token Handling").
 */
export interface AuthInfo {
  /** The access token. */
  token: string
  /** The OAuth client that the token was issued to. Part of the default principal. */
  clientId: string
  /** What the token allows. */
  scopes: string[]
  /** When the token expires, in seconds since the epoch. Not checked here. */
  expiresAt?: number
  /** The resource server that the token is for (RFC 8707). Not checked here. */
  resource?: URL
  /** Anything else that is known of the token. `extra.sub`, the subject, is part of the default principal. */
  extra?: Record<string, unknown>
}

/**
 * What a server instance gets with each message of the client: both SDK lines pass it on to handlers, each the part that it
 * knows. It is about the HTTP request that the message came in.
 */
export interface MessageExtra {
  /** Verified auth of the request; undefined: none. */
  authInfo?: AuthInfo
  /** The request, as line 1 of the SDK has it: its headers, with names in lower case, and its URL. */
  requestInfo?: { headers: Record<string, string | string[] | undefined>; url?: URL }
  /** The request, as line 2 of the SDK has it. Its body was read already. */
  request?: Request
  /**
   * Ends the connection that answers this request; the client comes back for the rest (2025-11-25, basic/transports, "Sending
   * Messages to the Server"). Only with requests, and only for clients that can come back: since revision 2025-11-25.
   */
  closeSSEStream?: () => void
  /** Ends the connection of the standalone stream; the client comes back. Given when `closeSSEStream` is. */
  closeStandaloneSSEStream?: () => void
}

/**
 * The connection between a server instance and its client: the SDKs' `Transport`, as far as a server needs it. The server sets
 * the callbacks, then calls `start`.
 */
export interface Transport {
  /** Called by the server's `connect`. Messages may come from then on. */
  start(): Promise<void>
  /**
   * Sends a message to the client.
   *
   * @param options.relatedRequestId The client's request that the message belongs to: it is sent on the stream of that
   *   request, any other on the standalone stream (2025-11-25, basic/transports, "Multiple Connections").
   */
  send(message: JSONRPCMessage, options?: { relatedRequestId?: RequestId | undefined }): Promise<void>
  /** Ends the connection; `onclose` is called. */
  close(): Promise<void>
  /** Called when the connection has ended, by whomever. */
  onclose?: (() => void) | undefined
  /** Called with errors that do not end the connection. */
  onerror?: ((error: Error) => void) | undefined
  /** Called with each message of the client. */
  onmessage?: ((message: JSONRPCMessage, extra?: MessageExtra) => void) | undefined
  /** The session id (2025-11-25, basic/transports, "Session Management"). */
  sessionId?: string | undefined
}

/**
 * What serves one session on one node: an `McpServer` or `Server` of either SDK line, or anything that speaks MCP to a
 * transport.
 */
export interface ServerInstance {
  /** Sets the transport's callbacks and starts it. Called once. If it rejects, the request that needed the instance fails. */
  connect(transport: Transport): Promise<void>
  /** Called when the node drops the instance; the session may go on with another one. */
  close(): Promise<void>
}
