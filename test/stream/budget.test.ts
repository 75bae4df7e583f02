/** A session whose streams are more than its log keeps: what a client that comes back, or is still there, is told. */
import { expect, test, vi } from 'vitest'
import { STREAM_WEIGHT } from '../../src/backend/backend.js'
import type { Visit } from './driver.js'
import { cluster, type NodeScript } from './simulated.js'

// the one timer of the source that is imported
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms)),
}))

const MUCH = 'x'.repeat(10_000)
const retention = { maxSessionBytes: 2 * (MUCH.length + 4 * STREAM_WEIGHT) }

/** A tool that says much, once the test lets it, and answers when it lets it again. */
function talking() {
  const going = new Map<unknown, () => void>()
  const script: NodeScript = () => ({
    'tools/call': async (message, server) => {
      await server.say('begun', message.id)
      await new Promise<void>((resolve) => going.set(message.id, resolve))
      await server.say(MUCH, message.id)
      await new Promise<void>((resolve) => going.set(message.id, resolve))
      return { done: true }
    },
  })
  return { script, go: (id: number) => going.get(id)?.() }
}

async function talk() {
  const { script, go } = talking()
  const on = await cluster(script, { retention })
  const begin = async (id: number) => {
    const call = on.driver.request(on.A, id, 'tools/call', { name: 'x' })
    await on.driver.until(() => call.messages.length === 1)
    return call
  }
  const say = async (call: Visit, id: number) => {
    go(id)
    await on.driver.until(() => call.messages.length === 2)
  }
  const finished = async (id: number) => {
    const call = await begin(id)
    await say(call, id)
    go(id)
    await on.driver.until(() => call.ended)
    return call
  }
  const status = async (lastEventId: string | undefined) => {
    const resumed = on.driver.resume(on.B, lastEventId)
    await on.driver.until(() => resumed.status !== undefined, 1000)
    resumed.drop()
    return resumed.status
  }
  return { ...on, go, begin, say, finished, status }
}

const at = (lastEventId: string | undefined, position: number) => lastEventId?.replace(/\d+$/, String(position))

test('a client that comes back to a finished stream of which nothing is kept: 400, or 204 if it has everything', async () => {
  const { finished, status } = await talk()
  const calls = [await finished(1), await finished(2), await finished(3)]
  const [first, , last] = calls.map(({ lastEventId }) => lastEventId)
  expect(await status(at(first, 1))).toBe(400)
  expect(await status(at(first, 2))).toBe(400)
  expect(await status(first)).toBe(204)
  expect(await status(at(last, 1))).toBe(200)
})

test('a client that comes back to a running stream for what is no longer kept: 400, and for the rest of it a stream', async () => {
  const { begin, say, go, status, driver, B } = await talk()
  const call = await begin(1)
  await say(call, 1)
  call.drop()
  const others = [await begin(2), await begin(3)]
  for (const [index, other] of others.entries()) await say(other, index + 2)
  // Only the newest event of each is kept.
  expect(await status(at(call.lastEventId, 0))).toBe(400)
  const resumed = driver.resume(B, at(call.lastEventId, 1))
  await driver.until(() => resumed.status === 200)
  go(1)
  await driver.until(() => resumed.ended)
  expect(resumed.messages).toMatchObject([{ params: { data: MUCH } }, { id: 1, result: { done: true } }])
})

test('a client that is still there when what it has not got goes: an error of its request, and it is counted', async () => {
  const { begin, go, finished, driver, world, B } = await talk()
  const call = await begin(1)
  call.drop()
  const resumed = driver.resume(B, call.lastEventId)
  await driver.until(() => resumed.status === 200)
  // B hears nothing of what A appends, and looks for it after some seconds.
  world.network.loss = 1
  for (let step = 0; step < 2; step++) {
    go(1)
    await world.clock.pass(100)
  }
  await finished(2)
  await finished(3)
  expect(resumed.messages).toEqual([])
  await driver.until(() => resumed.ended, 10_000)
  expect(resumed.messages).toMatchObject([{ id: 1, error: { data: { reason: 'messages-lost' } } }])
  world.network.loss = 0
  const status = B.handler.status()
  await world.clock.pass(1000)
  expect((await status).lostMessages).toBe(2)
})
