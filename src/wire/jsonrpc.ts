/** The JSON-RPC 2.0 messages that MCP speaks, structurally: both SDK lines' types fit them without a cast. */

export type RequestId = string | number

export interface JSONRPCRequest {
  jsonrpc: '2.0'
  id: RequestId
  method: string
  params?: { [key: string]: unknown } | undefined
}

export interface JSONRPCNotification {
  jsonrpc: '2.0'
  method: string
  params?: { [key: string]: unknown } | undefined
}

export interface JSONRPCResultResponse {
  jsonrpc: '2.0'
  id: RequestId
  result: { [key: string]: unknown }
}

export interface JSONRPCErrorResponse {
  jsonrpc: '2.0'
  id?: RequestId | undefined
  error: { code: number; message: string; data?: unknown }
}

export type JSONRPCResponse = JSONRPCResultResponse | JSONRPCErrorResponse
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

/** Whether a parsed JSON value is one JSON-RPC message; the only look that is taken at a body before it is used. */
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
