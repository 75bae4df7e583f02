/** How the event log's cases get at a stream. */
import assert from 'node:assert/strict'
import type { Backend, EventBatch, EventLog, StreamInfo, StreamInit } from '../backend/backend.js'
import { present, randomId } from './kit.js'

export function log({ events }: Backend): EventLog {
  assert(events, 'the backend has no event log')
  return events
}

/** The event log with session and stream filled in. */
export function streamOf(backend: Backend, session: string, stream: string) {
  const events = log(backend)
  return {
    open: (init: StreamInit) => events.open(session, stream, init),
    append: (batch: EventBatch) => events.append(session, stream, batch),
    read: (after: number, limit: number) => events.read(session, stream, after, limit),
    attach: (reader: string) => events.attach(session, stream, reader),
    claim: (writer: string, from: string) => events.claim(session, stream, writer, from),
  }
}

export async function opened(backend: Backend, init: StreamInit = { head: '"head"' }) {
  const session = randomId()
  assert.equal(await streamOf(backend, session, 'stream').open(init), true)
  return { session, stream: (on: Backend) => streamOf(on, session, 'stream') }
}

export async function positions(stream: ReturnType<typeof streamOf>, after: number, limit: number): Promise<number[]> {
  return present(await stream.read(after, limit), 'stream').events.map((event) => event.position)
}

/** Says what a deep comparison is about; the type checks that every field is there. */
export function info(expected: StreamInfo): StreamInfo {
  return expected
}
