/** Ways into a handler, a transport or a process, for requests that no client library would make. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import type { AuthInfo, FetchOptions } from '../../src/index.js'
import { Reply } from './reply.js'
import { PATIENCE, within } from './within.js'

export interface Sent {
  /** Default: POST. */
  method?: string
  /** Beside the ones that a well-behaved client sends; undefined leaves one of those out. */
  headers?: Record<string, string | undefined>
  /** An object is sent as JSON. */
  body?: unknown
  /** A body without a Content-Length. */
  chunks?: (string | Buffer)[]
  /** What middleware in front has verified. Over a network it is what `Authorization` says: {@link bearer}. */
  authInfo?: AuthInfo | undefined
}

export interface Door {
  /** Resolves with the head of the answer. The request is on its way when this returns. */
  open(sent: Sent): Promise<Reply>
}

type Fetch = (request: Request, options: FetchOptions) => Promise<Response>

/** What answers: a handler, or a transport by itself. */
export interface Served {
  node(req: http.IncomingMessage & { auth?: AuthInfo | undefined }, res: http.ServerResponse): unknown
  fetch: Fetch
}

export type DoorName = 'node' | 'fetch'
/** The two adapters, which answer alike. */
export const DOORS: readonly DoorName[] = ['node', 'fetch']

/** A way through one of the adapters: a real server on loopback, or calls of `fetch`. */
export async function door(name: DoorName, served: Served): Promise<Door> {
  return name === 'node' ? nodeDoor(await listen(served.node)) : fetchDoor(served.fetch)
}

export function authOf(clientId: string, sub?: string): AuthInfo {
  return { token: `token of ${clientId}`, clientId, scopes: [], ...(sub !== undefined && { extra: { sub } }) }
}

/** The verified auth of `Authorization: Bearer client/subject`, as middleware in front would leave it. */
function bearer(header: string | null | undefined): AuthInfo | undefined {
  if (!header) return undefined
  const token = header.replace('Bearer ', '')
  const [clientId = '', sub] = token.split('/')
  return { ...authOf(clientId, sub), token }
}

function headersOf({ headers, method = 'POST' }: Sent): Record<string, string> {
  const all: Record<string, string | undefined> = {
    accept: 'application/json, text/event-stream',
    ...(method === 'POST' && { 'content-type': 'application/json' }),
    ...headers,
  }
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

function bytesOf({ body }: Sent): string | Buffer | undefined {
  if (body === undefined || typeof body === 'string' || Buffer.isBuffer(body)) return body
  return JSON.stringify(body)
}

/** A server of node:http on loopback until the test ends; its port. */
export async function listen(listener: Served['node']): Promise<number> {
  const server = http.createServer((req, res) => {
    const auth = bearer(req.headers.authorization)
    void listener(Object.assign(req, auth && { auth }), res)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  )
  return (server.address() as AddressInfo).port
}

/** Over the network, each request on a connection of its own. */
export function urlDoor(url: string, patience = PATIENCE): Door {
  const { port, pathname, search } = new URL(url)
  return nodeDoor(Number(port), pathname + search, patience)
}

/** Over the network, to a port on loopback. */
export function nodeDoor(port: number, path = '/mcp', patience = PATIENCE): Door {
  return {
    open(sent) {
      if (sent.authInfo) throw new Error('over the network, auth travels in the Authorization header')
      const { method = 'POST', chunks = [] } = sent
      const body = bytesOf(sent)
      const answered = new Promise<Reply>((resolve, reject) => {
        const headers = headersOf(sent)
        if (body !== undefined) headers['content-length'] ??= String(Buffer.byteLength(body))
        const request = http.request({ host: '127.0.0.1', port, path, method, headers, agent: false })
        request.on('error', reject)
        request.on('response', (response) => {
          request.off('error', reject).on('error', () => {})
          const names = Object.entries(response.headers).map(([key, value]) => [key, String(value)])
          const { chunks, leave } = taken(response, request)
          resolve(new Reply(response.statusCode ?? 0, Object.fromEntries(names), chunks, leave, patience))
        })
        for (const chunk of chunks) request.write(chunk)
        request.end(body)
      })
      return within(answered, `an answer to ${method}`, patience)
    },
  }
}

/** What comes is taken at once: if the connection breaks, what had come before is still there to be read. */
function taken(response: http.IncomingMessage, request: http.ClientRequest) {
  const arrived: Uint8Array[] = []
  let ended: { error?: Error } | undefined
  let wake = () => {}
  const end = (error?: Error) => {
    ended ??= error ? { error } : {}
    wake()
  }
  response.on('data', (chunk: Buffer) => {
    arrived.push(chunk)
    wake()
  })
  response.on('end', () => end()).on('error', end)
  const chunks: AsyncIterator<Uint8Array> = {
    async next() {
      while (arrived.length === 0 && !ended) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      const value = arrived.shift()
      if (value) return { value, done: false }
      if (ended?.error) throw ended.error
      return { value: undefined, done: true }
    },
  }
  const leave = async () => {
    arrived.length = 0
    end()
    request.destroy()
  }
  return { chunks, leave }
}

/** Through `fetch`, with the body as bytes. */
export function fetchDoor(fetch: Fetch): Door {
  return {
    open(sent) {
      const { method = 'POST', chunks } = sent
      const headers = headersOf(sent)
      const body = chunks ? streamOf(chunks) : bytesOf(sent)
      if (typeof body === 'string' || Buffer.isBuffer(body)) {
        headers['content-length'] ??= String(Buffer.byteLength(body))
      }
      // `duplex` is missing from the types of Node 20
      const init = { method, headers, ...(body !== undefined && { body }), ...(chunks && { duplex: 'half' }) }
      const request = new Request('http://127.0.0.1/mcp', init as RequestInit)
      const authInfo = sent.authInfo ?? bearer(request.headers.get('authorization'))
      const answered = fetch(request, authInfo ? { authInfo } : {}).then((response) => replyOf(response, PATIENCE))
      return within(answered, `an answer to ${method}`)
    },
  }
}

/** Through `fetch`, with the body parsed already: reading one takes turns of the event loop that no test can count. */
export function parsedDoor(fetch: Fetch): Door {
  return {
    open({ authInfo, ...sent }) {
      const request = new Request('http://localhost/mcp', { method: sent.method ?? 'POST', headers: headersOf(sent) })
      const parsedBody = sent.body === undefined ? undefined : JSON.parse(JSON.stringify(sent.body))
      const options = { ...(authInfo && { authInfo }), ...(parsedBody !== undefined && { parsedBody }) }
      return fetch(request, options).then((response) => replyOf(response))
    },
  }
}

function replyOf(response: Response, patience?: number): Reply {
  const reader = response.body?.getReader()
  const chunks: AsyncIterator<Uint8Array> = {
    next: async () =>
      ((await reader?.read()) as IteratorResult<Uint8Array> | undefined) ?? { done: true, value: undefined },
  }
  const leave = async () => reader?.cancel()
  return new Reply(response.status, Object.fromEntries(response.headers), chunks, leave, patience)
}

function streamOf(chunks: (string | Buffer)[]): ReadableStream<Uint8Array> {
  const rest = [...chunks]
  return new ReadableStream({
    pull(controller) {
      const chunk = rest.shift()
      if (chunk === undefined) controller.close()
      else controller.enqueue(Buffer.from(chunk))
    },
  })
}
