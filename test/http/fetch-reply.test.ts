/** The body of a web `Response`, as a stream that is written to. */
import { test } from 'vitest'
import { FetchHttpReply } from '../../src/http/fetch.js'
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
