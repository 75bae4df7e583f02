/** A stream whose node went away before everything was answered: what is known of it, for whoever finishes it. */
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

export interface UnfinishedStream {
  /** The session's id. */
  session: string
  stream: string
  /** The requests of its POST that have no answer yet. */
  requests: JSONRPCRequest[]
  /** The last progress that was written, by progress token. */
  progress: Map<unknown, number>
  /** Appends after what is there. */
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

/** The answer to a request of whose messages some are lost: its result alone would pass for all there was. */
export function messagesLost(id: RequestId): JSONRPCErrorResponse {
  return {
    jsonrpc: '2.0',
    id,
    error: {
      code: -32000,
      message: 'Some of what the server sent for this request is lost: it sent more than was read, or kept',
      data: { reason: 'messages-lost' },
    },
  }
}

/** The answer to a request of which nothing was heard for too long. */
export function timedOut(id: RequestId): JSONRPCErrorResponse {
  return {
    jsonrpc: '2.0',
    id,
    // As the SDKs' own `RequestTimeout`.
    error: { code: -32001, message: 'Request timed out', data: { reason: 'timed-out' } },
  }
}

/** Answers what is left of a stream with an error, because it cannot be finished here. */
export function giveUp({ requests, writer }: UnfinishedStream): void {
  for (const { id } of requests) writer.push(JSON.stringify(outcomeUnknown(id)))
  writer.end()
}

const PAGE = 256

/** What a stream's events say of its requests. */
export interface Left extends Pick<UnfinishedStream, 'requests' | 'progress'> {
  /** Of the last event. */
  position: number
}

/** Reads from a stream's events which of its requests have no answer yet, and the progress that was reported. */
export async function readUnfinished(log: EventLog, session: string, stream: string, head: StreamHead): Promise<Left> {
  const answered = new Set<RequestId>()
  const progress = new Map<unknown, number>()
  let position = 0
  for (;;) {
    const slice = await log.read(session, stream, position, PAGE)
    for (const event of slice?.events ?? []) {
      position = event.position
      const message: unknown = JSON.parse(event.data)
      if (!isObject(message)) continue
      if (!('method' in message) && isRequestId(message.id)) answered.add(message.id)
      const { params } = message
      if (message.method === 'notifications/progress' && isObject(params)) {
        progress.set(params.progressToken, Number(params.progress))
      }
    }
    if (!slice || slice.events.length === 0 || position >= slice.last) {
      return {
        requests: head.requests.filter(({ id }) => !answered.has(id)),
        progress,
        position: slice?.last ?? position,
      }
    }
  }
}
