/** What the core sees of HTTP: one request and the way to answer it, whatever server it came through. */
import type { IncomingHttpHeaders } from 'node:http'
import type { AuthInfo } from './sdk.js'

export interface HttpRequest {
  readonly method: string
  header(name: string): string | undefined
  /** Verified by the host program's own middleware. */
  readonly authInfo: AuthInfo | undefined
  /** The parsed JSON body; rejects with a {@link Refusal}. */
  body(limit: number): Promise<unknown>
  /** As handlers of the v1 SDK line see the request. */
  readonly requestInfo: RequestInfo
  /** As handlers of the v2 SDK line see the request; its body is already consumed. */
  readonly request: Request
}

export interface RequestInfo {
  headers: IncomingHttpHeaders
  readonly url: URL
}

export type ReplyHeaders = Record<string, string>

/** The answer to one request: `send` or `stream`, once. */
export interface HttpReply {
  send(status: number, headers: ReplyHeaders, body?: string): void
  stream(headers: ReplyHeaders): Sink
  /** Called at most once, when the connection is gone or the answer is complete. */
  onclose(listener: () => void): void
}

/** An open SSE answer. */
export interface Sink {
  write(text: string): void
  end(): void
  /** Ends the answer at once, with what is buffered. */
  destroy(): void
  /** Bytes written that the network has not taken yet. */
  readonly buffered: number
  /** Resolves when nothing is buffered, the connection is gone, or `timeout` ms have passed. */
  drained(timeout: number): Promise<void>
}

/** A request, and whom it comes from. */
export interface Caller {
  readonly request: HttpRequest
  /** Whom the request's verified auth names; undefined: anonymous. */
  readonly principal: string | undefined
}
