/** How the cases of the event log use a stream. */
import assert from 'node:assert/strict'
import type { Backend, EventBatch, EventLog, StreamInfo, StreamInit, StreamSlice } from '../backend/backend.js'
import { present } from './kit.js'
import { randomId } from './samples.js'

export function log({ events }: Backend): EventLog {
  assert(events, 'the backend has no event log')
  return events
}

/** The event log with session and stream filled in, and short ways to read a stream that must be there. */
export function streamOf(backend: Backend, session: string, stream: string) {
  const events = log(backend)
  const slice = async (after = 0, limit = 100) => present(await events.read(session, stream, after, limit), 'stream')
  return {
    open: (init: StreamInit) => events.open(session, stream, init),
    append: (batch: EventBatch) => events.append(session, stream, batch),
    read: (after: number, limit: number) => events.read(session, stream, after, limit),
    attach: (reader: string) => events.attach(session, stream, reader),
    sent: (position: number) => events.sent(session, stream, position),
    claim: (writer: string, from: string) => events.claim(session, stream, writer, from),
    slice,
    positions: async (after?: number, limit?: number) => positionsOf(await slice(after, limit)),
    data: async () => dataOf(await slice()),
  }
}

export function positionsOf({ events }: StreamSlice): number[] {
  return events.map((event) => event.position)
}

export function dataOf({ events }: StreamSlice): string[] {
  return events.map((event) => event.data)
}

/** A new stream of a new session. */
export async function opened(backend: Backend, init: StreamInit = { head: '"head"' }) {
  const session = randomId()
  assert.equal(await streamOf(backend, session, 'stream').open(init), true)
  return { session, stream: (on: Backend) => streamOf(on, session, 'stream') }
}

/** The same object: for a deep comparison, where the type checks that no field is left out. */
export function info(expected: StreamInfo): StreamInfo {
  return expected
}
