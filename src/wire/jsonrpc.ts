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

/** The members that messages may have: the SDKs ignore a message with any other, and do not answer it. */
const CALL_MEMBERS = new Set(['jsonrpc', 'id', 'method', 'params'])
const RESULT_MEMBERS = new Set(['jsonrpc', 'id', 'result'])
const ERROR_MEMBERS = new Set(['jsonrpc', 'id', 'error'])
/** In `_meta`, the task that a message belongs to (2025-11-25, basic/utilities/tasks, "Related Task Metadata"). */
const RELATED_TASK = 'io.modelcontextprotocol/related-task'

/**
 * Whether a parsed JSON value is one JSON-RPC message. What both SDK lines ignore in silence is none: a request would never be
 * answered, and a response, accepted, would never reach who waits for it. What is in `params` is for the method to judge.
 */
export function isMessage(value: unknown): value is JSONRPCMessage {
  if (!isObject(value) || value.jsonrpc !== '2.0') return false
  if ('method' in value) {
    const { method, params } = value
    return (
      typeof method === 'string' &&
      hasOnly(value, CALL_MEMBERS) &&
      (!('id' in value) || isRequestId(value.id)) &&
      (params === undefined || (isObject(params) && isMeta(params._meta)))
    )
  }
  const { id, result, error } = value
  if (isObject(result)) {
    // Line 2 takes any members in the `_meta` of a result.
    return hasOnly(value, RESULT_MEMBERS) && isRequestId(id) && (result._meta === undefined || isObject(result._meta))
  }
  return (
    isObject(error) &&
    hasOnly(value, ERROR_MEMBERS) &&
    Number.isSafeInteger(error.code) &&
    typeof error.message === 'string' &&
    (id === undefined || isRequestId(id))
  )
}

function hasOnly(value: object, members: ReadonlySet<string>): boolean {
  for (const member in value) if (!members.has(member)) return false
  return true
}

function isMeta(meta: unknown): boolean {
  if (meta === undefined) return true
  if (!isObject(meta)) return false
  const { progressToken, [RELATED_TASK]: task } = meta
  return (
    (progressToken === undefined || isRequestId(progressToken)) &&
    (task === undefined || (isObject(task) && typeof task.taskId === 'string'))
  )
}

/** Also of progress tokens. A greater integer is not the same for everybody who reads it. */
export function isRequestId(value: unknown): value is RequestId {
  return typeof value === 'string' || Number.isSafeInteger(value)
}

export function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
