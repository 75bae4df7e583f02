/** What we use of the SDKs, structurally: types of both lines fit without a cast. */
import type { JSONRPCMessage, RequestId } from './jsonrpc.js'

/** Information about a validated access token; the same shape as the SDKs'. */
export interface AuthInfo {
  token: string
  clientId: string
  scopes: string[]
  /** Seconds since the epoch. */
  expiresAt?: number
  resource?: URL
  extra?: Record<string, unknown>
}

/** What comes with a message into a server instance, for both SDK lines. */
export interface MessageExtra {
  authInfo?: AuthInfo
  requestInfo?: { headers: Record<string, string | string[] | undefined>; url?: URL }
  request?: Request
  closeSSEStream?: () => void
  closeStandaloneSSEStream?: () => void
}

/** The SDKs' `Transport`, as far as a server needs it. */
export interface Transport {
  start(): Promise<void>
  send(message: JSONRPCMessage, options?: { relatedRequestId?: RequestId | undefined }): Promise<void>
  close(): Promise<void>
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  onmessage?: ((message: JSONRPCMessage, extra?: MessageExtra) => void) | undefined
  sessionId?: string | undefined
}

/** What serves one session on one node: an `McpServer` or `Server` of either SDK line, or anything that speaks to a transport. */
export interface ServerInstance {
  connect(transport: Transport): Promise<void>
  close(): Promise<void>
}
