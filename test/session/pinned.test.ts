/** A session whose answers never come is not live for ever; one on which somebody says something is. */
import { expect, test } from 'vitest'
import { scripted, UNANSWERED } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'

const HOUR = 60 * 60_000

test('a call that is never answered keeps its session live for an hour after the last sign of life, and no longer', async () => {
  const pass = fakeTime()
  const handler = serve(scripted({ 'tools/call': () => UNANSWERED }))
  const client = await openSession(handler)
  const live = async () => (await handler.status()).liveSessions
  let calls = 0
  /** A call whose client goes away at once. */
  const hang = async () => {
    const pending = client.open({ id: ++calls, method: 'tools/call', params: { name: 'x' } })
    await pass(150)
    await (await pending).leave()
    await quiet()
  }
  await hang()
  await pass(HOUR - 10_000)
  expect(await live()).toBe(1)
  await hang()
  await pass(HOUR - 10_000)
  expect(await live()).toBe(1)
  await pass(20_000)
  expect(await live()).toBe(0)
})
