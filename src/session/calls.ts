/** Requests that the node itself has the server answer: `initialize`, what is replayed, what must be known of its tools. */
import type { JSONRPCRequest, JSONRPCResponse, RequestId } from '../wire/jsonrpc.js'

/** How long the server may take to answer one of them, in ms. */
const PATIENCE = 60_000

export class Calls {
  #waiting = new Map<RequestId, (response: JSONRPCResponse | Error) => void>()
  #count = 0

  get size(): number {
    return this.#waiting.size
  }

  make(
    method: string,
    params: JSONRPCRequest['params'],
    dispatch: (request: JSONRPCRequest) => void,
  ): Promise<JSONRPCResponse> {
    const id = `mcp-roam:${this.#count++}`
    return new Promise((resolve, reject) => {
      const late = () => settle(new Error(`no answer to ${method} within ${PATIENCE} ms`))
      const timer = setTimeout(late, PATIENCE)
      const settle = (response: JSONRPCResponse | Error) => {
        this.#waiting.delete(id)
        clearTimeout(timer)
        if (response instanceof Error) reject(response)
        else resolve(response)
      }
      this.#waiting.set(id, settle)
      dispatch({ jsonrpc: '2.0', id, method, ...(params && { params }) })
    })
  }

  /** Takes the server's answer, if it is one to such a request. */
  settle(id: RequestId, response: JSONRPCResponse): boolean {
    const settle = this.#waiting.get(id)
    settle?.(response)
    return settle !== undefined
  }

  /** There will be no more answers. */
  fail(error: Error): void {
    for (const settle of [...this.#waiting.values()]) settle(error)
  }
}
