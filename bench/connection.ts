/** One keep-alive connection that calls the echo tool, one call at a time, and checks each answer. */
import { Client } from 'undici'
import { checkEcho, echoCall, HEADERS } from './client.js'

const CALL_TIMEOUT = 15_000
// As long as an argument often is.
const PADDING = 'x'.repeat(64)
let lastId = 0

export class Connection {
  readonly #client: Client
  readonly #path: string

  constructor(url: string) {
    const { origin, pathname } = new URL(url)
    this.#client = new Client(origin, { headersTimeout: CALL_TIMEOUT, bodyTimeout: CALL_TIMEOUT })
    this.#path = pathname
  }

  /** Resolves with the milliseconds that the call took. */
  call(session: string): Promise<number> {
    const id = ++lastId
    const text = `${id} ${PADDING}`
    const headers = { ...HEADERS, 'mcp-session-id': session }
    return new Promise((resolve, reject) => {
      const start = performance.now()
      let status = 0
      let body = ''
      this.#client.dispatch(
        { path: this.#path, method: 'POST', headers, body: echoCall(id, text) },
        {
          onRequestStart() {},
          onResponseStart(_, statusCode) {
            status = statusCode
          },
          onResponseData(_, chunk) {
            body += chunk.toString('latin1')
          },
          onResponseEnd() {
            try {
              checkEcho(id, text, status, body)
              resolve(performance.now() - start)
            } catch (error) {
              reject(error)
            }
          },
          onResponseError(_, error) {
            reject(error)
          },
        },
      )
    })
  }

  close(): Promise<void> {
    return this.#client.close()
  }
}
