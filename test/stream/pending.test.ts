/** Connections that are still being made count among those that may be open. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'

test('while the log takes its time, no more GETs wait for it than may be open', async () => {
  const backend = gated()
  const handler = serve(scripted(), { backend, limits: { streams: 2, allStreams: 3 } })
  const [slow, quick, late] = [await openSession(handler), await openSession(handler), await openSession(handler)]
  const gate = backend.calls.hold('events.attach')
  const first = slow.get()
  await gate.reached
  const second = slow.get()
  await quiet()
  expect((await slow.get()).status).toBe(429)
  expect((await quick.get()).status).toBe(200)
  expect((await late.get()).status).toBe(503)
  gate.open()
  expect([(await first).status, (await second).status]).toEqual([200, 200])
  expect((await slow.get()).status).toBe(200)
  await quiet()
  expect((await late.get()).status).toBe(200)
  expect((await handler.status()).openStreams).toBe(3)
})

test('a GET that fails while the older connection is asked for leaves nothing behind that follows the session', async () => {
  const shared = memory()
  const here = serve(scripted(), { backend: shared })
  const backend = gated(shared)
  const there = serve(scripted(), { backend })
  const client = await openSession(here)
  const older = await client.get()
  await client.at(there).request('ping')
  const before = backend.calls.count('bus.subscribe') - backend.calls.count('bus.unsubscribe')
  const recover = [backend.calls.fail('bus.publish'), backend.calls.fail('events.read')]
  expect((await client.at(there).get()).status).toBe(503)
  for (const each of recover) each()
  await quiet()
  expect(backend.calls.count('bus.subscribe') - backend.calls.count('bus.unsubscribe')).toBe(before)
  await older.leave()
})

test('a GET that is on its way while the node ends is sent elsewhere: nobody would end its connection', async () => {
  const backend = gated()
  const handler = serve(scripted(), { backend })
  const client = await openSession(handler)
  const gate = backend.calls.holdAnswer('events.attach')
  const late = client.get()
  await gate.reached
  await handler.drain({ timeout: 0 })
  gate.open()
  expect((await late).status).toBe(503)
  expect((await handler.status()).openStreams).toBe(0)
})
