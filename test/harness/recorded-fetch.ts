/** What a client really sends and gets. */
import { NODE_HEADER } from './proxy.js'
import { Recorder } from './recorder.js'

/** One HTTP request, and how it was answered. */
export interface Exchange {
  method: string
  /** The JSON-RPC method of the body, or of each message of a batch. */
  rpc: string[]
  body: unknown
  sessionId: string | undefined
  lastEventId: string | undefined
  /** The proxy's target that it was sent to by name. */
  node?: number | undefined
  /** Undefined while there is no answer, and for good if there never was one. */
  status?: number
  contentType?: string | null
  /** The session id in the answer. */
  answeredSessionId?: string | null
  error?: unknown
}

/** Says which of the proxy's targets a request goes to; undefined: whichever's turn it is. */
export type Route = (exchange: Exchange) => number | undefined

/** A `fetch` that keeps a log. */
export class RecordedFetch {
  /** May be changed at any time. */
  route: Route | undefined

  constructor(route?: Route) {
    this.route = route
  }

  /** In the order of sending. */
  readonly sent = new Recorder<Exchange>()
  /** In the order in which the answers' headers came. */
  readonly answered = new Recorder<Exchange>()
  /** Where each was sent, in the order of sending. */
  readonly urls: (string | URL)[] = []

  readonly fetch = async (url: string | URL, init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers)
    const body: unknown = typeof init.body === 'string' ? JSON.parse(init.body) : undefined
    const exchange: Exchange = {
      method: init.method ?? 'GET',
      rpc: [body]
        .flat()
        .map(methodOf)
        .filter((method) => method !== undefined),
      body,
      sessionId: headers.get('mcp-session-id') ?? undefined,
      lastEventId: headers.get('last-event-id') ?? undefined,
    }
    exchange.node = this.route?.(exchange)
    if (exchange.node !== undefined) headers.set(NODE_HEADER, String(exchange.node))
    this.sent.add(exchange)
    this.urls.push(url)
    try {
      const response = await fetch(url, { ...init, headers })
      exchange.status = response.status
      exchange.contentType = response.headers.get('content-type')
      exchange.answeredSessionId = response.headers.get('mcp-session-id')
      this.answered.add(exchange)
      return response
    } catch (error) {
      exchange.error = error
      throw error
    }
  }

  /** How many requests of a JSON-RPC method were sent. */
  count(rpc: string): number {
    return this.sent.all.filter((exchange) => exchange.rpc.includes(rpc)).length
  }

  /** The session ids that were sent, each once. */
  get sessionIds(): string[] {
    return [...new Set(this.sent.all.flatMap(({ sessionId }) => sessionId ?? []))]
  }

  /** Resolves when a GET stream stands that was opened after `since` (a former `answered.count`). */
  streamOpened(since = 0): Promise<Exchange> {
    const isStream = ({ method, status }: Exchange) => method === 'GET' && status === 200
    return this.answered.first(isStream, 'an open GET stream', { since })
  }
}

function methodOf(message: unknown): string | undefined {
  return (message as { method?: string } | undefined)?.method
}
