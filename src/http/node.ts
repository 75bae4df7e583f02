/** Adapter for node:http, and what is built on it (Express, Fastify). */
import { isUtf8 } from 'node:buffer'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { HttpReply, HttpRequest, ReplyHeaders, RequestInfo, Sink } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import type { AuthInfo } from '../wire/sdk.js'
import { lazyRequest } from './lazy-request.js'
import { isLoopback } from './loopback.js'

/** A request with what middleware may have left on it: `auth` by the SDK's bearer auth, `body` by body parsers. */
export type NodeRequest = IncomingMessage & { auth?: AuthInfo | undefined; body?: unknown; originalUrl?: string }

/** How long a connection that is to be closed is read after the answer, in ms (RFC 9112, section 9.6). */
const LINGER = 2000

const BYTE_ORDER_MARK = /^\uFEFF/

export class NodeHttpRequest implements HttpRequest {
  constructor(
    private readonly req: NodeRequest,
    private readonly parsedBody: unknown,
  ) {}

  get method(): string {
    return this.req.method ?? 'GET'
  }

  get authInfo(): AuthInfo | undefined {
    return this.req.auth
  }

  get cameIn(): HttpRequest['cameIn'] {
    // Node asks the system for it once a connection. A Unix socket has none.
    const { localAddress, destroyed } = this.req.socket
    if (localAddress === undefined) return destroyed ? 'unknown' : 'elsewhere'
    return isLoopback(localAddress) ? 'loopback' : 'elsewhere'
  }

  header(name: string): string | undefined {
    // HTTP/2 has `:authority` in place of `host`.
    const value = this.req.headers[name] ?? (name === 'host' ? this.req.headers[':authority'] : undefined)
    return Array.isArray(value) ? value.join(', ') : value
  }

  get requestInfo(): RequestInfo {
    return new NodeRequestInfo(this.req)
  }

  get request(): Request {
    return lazyRequest(() => {
      const { req } = this
      const headers = new Headers()
      for (let i = 0; i < req.rawHeaders.length; i += 2) {
        const name = req.rawHeaders[i] ?? ''
        // Those of HTTP/2 that begin with a colon are no headers of the request.
        if (!name.startsWith(':')) headers.append(name, req.rawHeaders[i + 1] ?? '')
      }
      return new Request(urlOf(req), { method: this.method, headers })
    })
  }

  body(limit: number): Promise<unknown> {
    if (this.parsedBody !== undefined) return Promise.resolve(this.parsedBody)
    const { req } = this
    if (req.readableEnded) {
      return Promise.reject(new Error('something in front has read the body: hand it on as parsedBody'))
    }
    return new Promise((resolve, reject) => {
      if (Number(req.headers['content-length']) > limit) return reject(new Refusal('tooLarge'))
      const chunks: Buffer[] = []
      let size = 0
      req.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > limit) {
          // The rest is read and thrown away: a client that is still sending would not read the answer.
          req.removeAllListeners('data').resume()
          return reject(new Refusal('tooLarge'))
        }
        chunks.push(chunk)
      })
      req.on('end', () => {
        const [first] = chunks
        const body = first && chunks.length === 1 ? first : Buffer.concat(chunks)
        try {
          if (!isUtf8(body)) throw new Refusal('notJson')
          resolve(JSON.parse(body.toString('utf8').replace(BYTE_ORDER_MARK, '')))
        } catch {
          reject(new Refusal('notJson'))
        }
      })
      // `close` follows `end`, too: then there is no need for the costly stack trace of an error.
      const cutOff = () => {
        if (!req.readableEnded) reject(new Refusal('notJson'))
      }
      req.on('error', cutOff).on('close', cutOff)
      if (req.destroyed) cutOff()
    })
  }
}

class NodeRequestInfo implements RequestInfo {
  constructor(private readonly req: NodeRequest) {}

  get headers() {
    return this.req.headers
  }

  get url(): URL {
    return new URL(urlOf(this.req))
  }
}

/** Express cuts the path of a mounted router off `url`, and keeps the whole in `originalUrl`. */
function urlOf(req: NodeRequest): string {
  const origin = `${'encrypted' in req.socket ? 'https' : 'http'}://`
  const target = req.originalUrl ?? req.url ?? '/'
  // It may also be a whole URL, or `*` (RFC 9112, section 3.2).
  const path = target.startsWith('/') ? target : '/'
  try {
    return new URL(`${origin}${req.headers.host ?? 'localhost'}${path}`).href
  } catch {
    return new URL(`${origin}localhost${path}`).href
  }
}

export class NodeHttpReply implements HttpReply {
  constructor(private readonly res: ServerResponse) {}

  get closed(): boolean {
    return this.res.closed
  }

  send(status: number, headers: ReplyHeaders, body?: string): void {
    const { res } = this
    if (res.headersSent) return
    // A 204 must not have it (RFC 9110, section 8.6).
    if (status !== 204) headers['content-length'] = String(Buffer.byteLength(body ?? ''))
    res.writeHead(status, headers)
    const { req } = res
    if (req.complete || res.shouldKeepAlive) {
      res.end(body)
      return
    }
    // Node would close the connection under a client that is still sending, which then does not get to read the answer.
    if (body !== undefined) res.write(body)
    const end = () => {
      clearTimeout(timer)
      res.end()
    }
    const timer = setTimeout(end, LINGER)
    req.once('end', end).once('close', end).resume()
  }

  stream(headers: ReplyHeaders): Sink {
    if (this.res.headersSent) throw new Error('the request was answered already')
    this.res.writeHead(200, headers)
    this.res.flushHeaders()
    return new NodeSink(this.res)
  }

  onclose(listener: () => void): void {
    if (this.res.closed) listener()
    else this.res.once('close', listener)
  }
}

class NodeSink implements Sink {
  constructor(private readonly res: ServerResponse) {}

  write(text: string): void {
    this.res.write(text)
  }

  end(): void {
    this.res.end()
  }

  get buffered(): number {
    return this.res.writableLength
  }

  destroy(): void {
    this.res.destroy()
  }

  drained(timeout: number): Promise<void> {
    const { res } = this
    if (res.closed || !res.writableNeedDrain) return Promise.resolve()
    return new Promise((resolve) => {
      const settle = () => {
        clearTimeout(timer)
        res.off('drain', settle).off('close', settle)
        resolve()
      }
      const timer = setTimeout(settle, timeout)
      res.on('drain', settle).on('close', settle)
    })
  }
}
