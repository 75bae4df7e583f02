/** The body of a web `Response`, as a stream that is written to. */
import { expect, test } from 'vitest'
import { FetchHttpReply } from '../../src/http/fetch.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { openSession } from '../harness/wire-client.js'
import { within } from '../harness/within.js'

test('several may wait until a slow client has read: all hear of it, and all are done when their time is up', async () => {
  const reply = new FetchHttpReply()
  const sink = reply.stream({})
  const reader = (await reply.response).body?.getReader()
  sink.write('one')
  const read = Promise.all([sink.drained(60_000), sink.drained(60_000)])
  await reader?.read()
  void reader?.read()
  await within(read, 'both heard of it')
  sink.write('two')
  sink.write('three')
  await within(Promise.all([sink.drained(10), sink.drained(20)]), 'both have waited long enough')
})

test('a client that leaves before its stream begins has none open, though nobody cancels the body', async () => {
  const backend = gated()
  const handler = serve(scripted(), { backend })
  const { sessionId } = await openSession(handler)
  const gate = backend.calls.holdAnswer('events.attach')
  const client = new AbortController()
  const headers = { accept: 'text/event-stream', 'mcp-session-id': sessionId }
  const answered = handler.fetch(new Request('http://localhost/mcp', { headers, signal: client.signal }))
  await gate.reached
  client.abort()
  gate.open()
  await answered
  expect((await handler.status()).openStreams).toBe(0)
})
