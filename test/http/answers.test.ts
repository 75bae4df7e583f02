/** An answer that exists reaches the client that is there for it: past a log that is slow or away, and before a node ends. */
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { DOORS } from '../harness/door.js'
import { type GatedBackend, gated } from '../harness/gated-backend.js'
import type { SseBlock } from '../harness/sse.js'
import { within } from '../harness/within.js'
import { stage } from './stage.js'
import { messages, said, streaming } from './streams.js'

/** How long an answer may take beside a log that is away, in ms: it waits for a second. */
const SOON = 3000
/** Longer than a connection takes to look into the log by itself, in ms. */
const LOOKED = 3500

const UNKNOWN = { id: 1, error: { data: { reason: 'outcome-unknown' } } }

const LOGS: Record<string, (backend: GatedBackend) => () => void> = {
  away: (backend) => backend.calls.fail('events'),
  slow: (backend) => {
    const gate = backend.calls.hold('events.append')
    void gate.reached.then(async () => {
      await delay(100)
      gate.open()
    })
    return () => {}
  },
}

describe.each(DOORS)('through the %s adapter', (name) => {
  test('a log that is away: an answer soon reaches a client that has resumed its stream, too', async () => {
    const backend = gated()
    const at = await stage(name, { backend })
    const client = await at.session()
    const { call, last } = await streaming(at, client, 1)
    const resumed = await client.get(last)
    expect((await resumed.block())?.id).toBe(last)
    const recover = backend.calls.fail('events')
    await delay(LOOKED)
    void call.say('on the way')
    void call.answer()
    const rest = await within(resumed.rest(), 'the answer', SOON)
    expect(messages(rest)).toMatchObject([...said('on the way'), { id: 1, result: {} }])
    expect(rest.map(({ id }) => id)).toEqual([undefined, undefined])
    recover()
  })

  test.each(Object.keys(LOGS))('a log that is %s while the node drains: an answer that was just given', async (log) => {
    const backend = gated()
    const at = await stage(name, { backend })
    const { stream, call } = await streaming(at, await at.session(), 1)
    const recover = LOGS[log]?.(backend)
    void call.answer()
    const drained = at.handler.drain({ timeout: 0 })
    expect(messages(await stream.rest())).toMatchObject([{ id: 1, result: {} }])
    await drained
    recover?.()
  })

  test('a call that is answered while a drain leaves its stream to others is answered', async () => {
    const backend = gated()
    const at = await stage(name, { backend })
    const { stream, call } = await streaming(at, await at.session(), 1)
    const claim = backend.calls.holdAnswer('events.claim')
    const drained = at.handler.drain({ timeout: 0 })
    await claim.reached
    await call.answer()
    claim.open()
    expect(messages(await stream.rest())).toMatchObject([{ id: 1, result: {} }])
    await drained
  })

  test.each(Object.keys(LOGS))(
    'a log that is %s: a drain answers the calls of clients that cannot resume',
    async (log) => {
      const backend = gated()
      const at = await stage(name, { backend })
      const { stream } = await streaming(at, await at.session({ version: '2025-06-18' }), 1)
      const recover = LOGS[log]?.(backend)
      const drained = at.handler.drain({ timeout: 0 })
      expect(messages(await stream.rest())).toMatchObject([UNKNOWN])
      await drained
      recover?.()
    },
  )

  test.each(Object.keys(LOGS))('a log that is %s while the node closes: calls end with an error', async (log) => {
    const backend = gated()
    const at = await stage(name, { backend })
    const { stream } = await streaming(at, await at.session(), 1)
    const recover = LOGS[log]?.(backend)
    const closed = at.handler.close()
    expect(messages(await stream.rest())).toMatchObject([UNKNOWN])
    await closed
    recover?.()
  })
})

test('a client that reads slowly, and a log that is well: all events have ids to come back with', async () => {
  const at = await stage('fetch', { maxBuffered: 1000 })
  const { stream, call } = await streaming(at, await at.session(), 1)
  const lines = Array.from({ length: 20 }, (_, n) => `${n}${'x'.repeat(1000)}`)
  for (const line of lines) void call.say(line)
  await delay(50)
  void call.answer()
  await delay(1500)
  const events: SseBlock[] = await stream.rest()
  expect(messages(events)).toMatchObject([...said(...lines), { id: 1 }])
  expect(events.filter(({ id }) => id === undefined)).toEqual([])
})
