/** Which requests may run a second time when nobody knows whether the first time was completed. */
import type { JSONRPCRequest, JSONRPCResponse } from '../wire/jsonrpc.js'
import { isObject } from '../wire/jsonrpc.js'

const SAFE = new Set([
  'ping',
  'tools/list',
  'prompts/list',
  'prompts/get',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'completion/complete',
])

/** Reads, and calls of tools annotated `readOnlyHint` or `idempotentHint` (specification, server/tools, ToolAnnotations). */
export async function isSafe(
  request: JSONRPCRequest,
  call: (method: string, params: JSONRPCRequest['params']) => Promise<JSONRPCResponse>,
): Promise<boolean> {
  if (SAFE.has(request.method)) return true
  if (request.method !== 'tools/call') return false
  let cursor: unknown
  do {
    const response = await call('tools/list', cursor === undefined ? undefined : { cursor })
    if ('error' in response) return false
    const { tools, nextCursor } = response.result
    if (!Array.isArray(tools)) return false
    for (const tool of tools) {
      if (!isObject(tool) || tool.name !== request.params?.name) continue
      const hints = isObject(tool.annotations) ? tool.annotations : {}
      return hints.readOnlyHint === true || hints.idempotentHint === true
    }
    cursor = nextCursor
  } while (cursor !== undefined)
  return false
}
