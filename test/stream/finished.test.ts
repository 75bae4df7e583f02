/** A stream that has ended is kept for minutes: for who comes back in time, and for who still reads. */
import { expect, test } from 'vitest'
import { FINISHED_TTL } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import { fakeTime } from '../harness/time.js'
import { stage } from '../http/stage.js'
import { calling, messages } from '../http/streams.js'

/** A call whose client lost its stream before the first message; it has ended since. */
async function lost(count: number) {
  const pass = fakeTime()
  const at = await stage('fetch', { backend: memory(), maxBuffered: 1000, responseMode: 'sse' })
  const client = await at.session()
  const { answer, call } = await calling(at, client, 1)
  const stream = await answer
  const primed = await stream.block()
  await stream.leave()
  for (let n = 0; n < count; n++) await call.say(`${n} ${'x'.repeat(1000)}`)
  await call.answer()
  return { pass, at, client, id: primed?.id }
}

test('a client that comes back within the time gets everything', async () => {
  const { pass, client, id } = await lost(20)
  await pass(FINISHED_TTL - 1000)
  const events = await (await client.get(id)).rest()
  expect(messages(events).at(-1)).toMatchObject({ id: 1, result: {} })
  expect(events).toHaveLength(21)
})

test('one that comes later is told that there is nothing', async () => {
  const { pass, client, id } = await lost(1)
  await pass(FINISHED_TTL + 1000)
  expect((await client.get(id)).status).toBe(400)
})

test('a client that reads slowly, for longer than that, gets everything', { timeout: 60_000 }, async () => {
  const COUNT = 700
  const { pass, client, id } = await lost(COUNT)
  const stream = await client.get(id)
  let answered = false
  let got = 0
  for (let event = await stream.next(); event; event = await stream.next()) {
    if ('result' in event.message) answered = true
    else expect(event.message.params.data).toContain(`${got++} `)
    await pass(1000)
  }
  expect([got, answered]).toEqual([COUNT, true])
})
