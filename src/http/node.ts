/** node:http, and what is built on it (Express, Fastify): straight to its request and response. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AuthInfo } from '../options.js'
import { lazyRequest } from './lazy-request.js'
import type { HttpReply, HttpRequest, ReplyHeaders, RequestInfo, Sink } from './message.js'
import { DRAIN_PATIENCE } from './message.js'
import { Refusal } from './refusal.js'

/** A request with what middleware in front left on it: the SDK's bearer auth sets `auth`, body parsers set `body`. */
export type NodeRequest = IncomingMessage & { auth?: AuthInfo | undefined; body?: unknown }

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

  header(name: string): string | undefined {
    const value = this.req.headers[name]
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
        if (!name.startsWith(':')) headers.append(name, req.rawHeaders[i + 1] ?? '')
      }
      return new Request(urlOf(req), { method: this.method, headers })
    })
  }

  body(limit: number): Promise<unknown> {
    if (this.parsedBody !== undefined) return Promise.resolve(this.parsedBody)
    const { req } = this
    return new Promise((resolve, reject) => {
      if (Number(req.headers['content-length']) > limit) return reject(new Refusal('tooLarge'))
      const chunks: Buffer[] = []
      let size = 0
      req.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > limit) {
          req.removeAllListeners('data').resume()
          return reject(new Refusal('tooLarge'))
        }
        chunks.push(chunk)
      })
      req.on('end', () => {
        try {
          resolve(JSON.parse((chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)).toString('utf8')))
        } catch {
          reject(new Refusal('notJson'))
        }
      })
      req.on('error', () => reject(new Refusal('notJson')))
    })
  }
}

class NodeRequestInfo implements RequestInfo {
  constructor(private readonly req: IncomingMessage) {}

  get headers() {
    return this.req.headers
  }

  get url(): URL {
    return new URL(urlOf(this.req))
  }
}

function urlOf(req: IncomingMessage): string {
  const scheme = 'encrypted' in req.socket ? 'https' : 'http'
  try {
    return new URL(req.url ?? '/', `${scheme}://${req.headers.host ?? 'localhost'}`).href
  } catch {
    return `${scheme}://localhost/`
  }
}

export class NodeHttpReply implements HttpReply {
  constructor(private readonly res: ServerResponse) {}

  send(status: number, headers: ReplyHeaders, body?: string): void {
    const { res } = this
    if (res.headersSent) return
    if (body !== undefined) headers['content-length'] = String(Buffer.byteLength(body))
    res.writeHead(status, headers)
    res.end(body)
  }

  stream(headers: ReplyHeaders): Sink {
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

  drained(): Promise<boolean> {
    const { res } = this
    if (res.closed) return Promise.resolve(false)
    if (!res.writableNeedDrain) return Promise.resolve(true)
    return new Promise((resolve) => {
      const settle = (drained: boolean) => {
        clearTimeout(timer)
        res.off('drain', ondrain).off('close', onclose)
        resolve(drained)
      }
      const ondrain = () => settle(true)
      const onclose = () => settle(false)
      const timer = setTimeout(onclose, DRAIN_PATIENCE)
      res.on('drain', ondrain).on('close', onclose)
    })
  }
}
