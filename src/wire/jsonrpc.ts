/**
 * The JSON-RPC 2.0 messages of MCP (2025-11-25, basic, "Messages"), structurally: types of both SDK lines fit without a cast.
 */

/** Names a request; unlike in plain JSON-RPC never null. A number is an integer. */
export type RequestId = string | number

/** Asks the other side for something; answered by one response. */
export interface JSONRPCRequest {
  jsonrpc: '2.0'
  /** Unique among the requests of one side in a session. */
  id: RequestId
  /** E.g. `tools/call`. */
  method: string
  params?: { [key: string]: unknown } | undefined
}

/** Tells the other side something; not answered. */
export interface JSONRPCNotification {
  jsonrpc: '2.0'
  /** E.g. `notifications/progress`. */
  method: string
  params?: { [key: string]: unknown } | undefined
}

/** The request was carried out. */
export interface JSONRPCResultResponse {
  jsonrpc: '2.0'
  /** That of the request. */
  id: RequestId
  result: { [key: string]: unknown }
}

/** The request failed. */
export interface JSONRPCErrorResponse {
  jsonrpc: '2.0'
  /** That of the request; undefined: the request was malformed, and its id could not be read. */
  id?: RequestId | undefined
  error: { code: number; message: string; data?: unknown }
}

/** The answer to a request. */
export type JSONRPCResponse = JSONRPCResultResponse | JSONRPCErrorResponse

/** Anything that client and server send each other. */
export type JSONRPCMessage = JSONRPCRequest | JSONRPCNotification | JSONRPCResponse

export function isRequest(message: JSONRPCMessage): message is JSONRPCRequest {
  return 'method' in message && 'id' in message
}

export function isNotification(message: JSONRPCMessage): message is JSONRPCNotification {
  return 'method' in message && !('id' in message)
}

export function isResponse(message: JSONRPCMessage): message is JSONRPCResponse {
  return !('method' in message)
}

/** Whether a parsed JSON value is one JSON-RPC message. This is all that is checked of a body before it is used. */
export function isMessage(value: unknown): value is JSONRPCMessage {
  if (!isObject(value) || value.jsonrpc !== '2.0') return false
  if (typeof value.method === 'string') {
    return (!('id' in value) || isRequestId(value.id)) && (value.params === undefined || isObject(value.params))
  }
  if ('method' in value) return false
  if (isObject(value.result)) return isRequestId(value.id) && !('error' in value)
  return (
    isObject(value.error) &&
    Number.isInteger(value.error.code) &&
    typeof value.error.message === 'string' &&
    (value.id === undefined || isRequestId(value.id))
  )
}

export function isRequestId(value: unknown): value is RequestId {
  return typeof value === 'string' || Number.isInteger(value)
}

export function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
