/** A stream whose node is gone before it had answered everything: what is known of it, for the one who finishes it. */
import type { EventLog } from '../backend/backend.js'
import {
  isObject,
  isRequestId,
  type JSONRPCErrorResponse,
  type JSONRPCRequest,
  type RequestId,
} from '../wire/jsonrpc.js'
import type { StreamWriter } from './writer.js'

/** What the log keeps of the POST that began a stream. */
export interface StreamHead {
  requests: readonly JSONRPCRequest[]
}

export interface Orphan {
  stream: string
  /** Those of the POST that have no answer yet. */
  requests: JSONRPCRequest[]
  /** The last progress that was written, by progress token. */
  progress: Map<unknown, number>
  /** Goes on where the stream stands. */
  writer: StreamWriter
}

/** The only true answer to a request that may or may not have been carried out. */
export function outcomeUnknown(id: RequestId): JSONRPCErrorResponse {
  return {
    jsonrpc: '2.0',
    id,
    error: {
      code: -32000,
      message: 'The server went away before it answered; the outcome of this request is unknown',
      data: { reason: 'outcome-unknown' },
    },
  }
}

/** Ends an orphan that nobody here can finish. */
export function giveUp({ requests, writer }: Orphan): void {
  for (const { id } of requests) writer.push(JSON.stringify(outcomeUnknown(id)))
  writer.end()
}

const PAGE = 256

/** Reads from a stream's events what was already said. */
export async function unfinished(
  log: EventLog,
  session: string,
  stream: string,
  head: StreamHead,
): Promise<Pick<Orphan, 'requests' | 'progress'>> {
  const answered = new Set<RequestId>()
  const progress = new Map<unknown, number>()
  for (let after = 0; ; ) {
    const slice = await log.read(session, stream, after, PAGE)
    for (const { position, data } of slice?.events ?? []) {
      after = position
      const message: unknown = JSON.parse(data)
      if (!isObject(message)) continue
      if (!('method' in message) && isRequestId(message.id)) answered.add(message.id)
      const { params } = message
      if (message.method === 'notifications/progress' && isObject(params)) {
        progress.set(params.progressToken, Number(params.progress))
      }
    }
    if (!slice || slice.events.length === 0 || after >= slice.last) break
  }
  return { requests: head.requests.filter(({ id }) => !answered.has(id)), progress }
}
