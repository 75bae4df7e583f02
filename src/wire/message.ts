/** HTTP as the rest of this library sees it: a request and the way to answer it, whatever server it came through. */
import type { IncomingHttpHeaders } from 'node:http'
import type { AuthInfo } from './sdk.js'

export interface HttpRequest {
  readonly method: string
  /** @param name In lower case. */
  header(name: string): string | undefined
  /**
   * Whether the server took it on a loopback address. `unknown`: the connection is gone, and its address with it; only a
   * request that waited for something in front of this library can be so late.
   */
  readonly cameIn: 'loopback' | 'elsewhere' | 'unknown'
  /** Verified by the host program's own middleware. */
  readonly authInfo: AuthInfo | undefined
  /**
   * The parsed JSON body; to be called once.
   *
   * @param limit Bytes.
   * @throws Refusal if the body is longer, or not JSON.
   */
  body(limit: number): Promise<unknown>
  /** What line 1 of the SDK hands to handlers. */
  readonly requestInfo: RequestInfo
  /** What line 2 of the SDK hands to handlers; its body cannot be read. */
  readonly request: Request
}

export interface RequestInfo {
  /** Names are in lower case. */
  headers: IncomingHttpHeaders
  readonly url: URL
}

export type ReplyHeaders = Record<string, string>

/** The answer to one request: `send` or `stream`, once. */
export interface HttpReply {
  /** Whether the connection is gone or the answer is complete. */
  readonly closed: boolean
  /** Answers with a whole body. Does nothing if the request was answered already. */
  send(status: number, headers: ReplyHeaders, body?: string): void
  /**
   * Answers 200 with a body that is still to come.
   *
   * @throws Error if the request was answered already.
   */
  stream(headers: ReplyHeaders): Sink
  /** Calls the listener once, when the connection is gone or the answer is complete; at once if that was before. */
  onclose(listener: () => void): void
}

/** An open SSE answer. */
export interface Sink {
  write(text: string): void
  /** Ends the answer; what was written is still sent. */
  end(): void
  /** Cuts the connection; what was written and not sent yet is lost. */
  destroy(): void
  /** Bytes written that the network has not taken yet. */
  readonly buffered: number
  /** Resolves when nothing is buffered, the connection is gone, or `timeout` ms have passed. */
  drained(timeout: number): Promise<void>
}

/** An HTTP request, and whom it comes from. */
export interface Caller {
  readonly request: HttpRequest
  /** Named by the request's verified auth; undefined: anonymous. */
  readonly principal: string | undefined
}
