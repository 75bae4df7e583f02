/** Requests that this node itself puts to the server: `initialize`, what a restore replays, a look at its list of tools. */
import type { JSONRPCRequest, JSONRPCResponse, RequestId } from '../wire/jsonrpc.js'

/** How long the server may take to answer one of them, in ms. */
const PATIENCE = 60_000

export class OwnRequests {
  readonly #waiting = new Map<RequestId, (response: JSONRPCResponse | Error) => void>()
  #count = 0

  get size(): number {
    return this.#waiting.size
  }

  /** @throws Error if the server does not answer in time, or closes. */
  make(
    method: string,
    params: JSONRPCRequest['params'],
    dispatch: (request: JSONRPCRequest) => void,
  ): Promise<JSONRPCResponse> {
    const id = `mcp-roam:${this.#count++}`
    return new Promise((resolve, reject) => {
      const late = () => finish(new Error(`no answer to ${method} within ${PATIENCE} ms`))
      const timer = setTimeout(late, PATIENCE)
      const finish = (response: JSONRPCResponse | Error) => {
        this.#waiting.delete(id)
        clearTimeout(timer)
        if (response instanceof Error) reject(response)
        else resolve(response)
      }
      this.#waiting.set(id, finish)
      dispatch({ jsonrpc: '2.0', id, method, ...(params && { params }) })
    })
  }

  /** Takes the server's response; false: it is not to one of these requests. */
  respond(id: RequestId, response: JSONRPCResponse): boolean {
    const finish = this.#waiting.get(id)
    finish?.(response)
    return finish !== undefined
  }

  /** There will be no more responses. */
  fail(error: Error): void {
    for (const finish of [...this.#waiting.values()]) finish(error)
  }
}
