/** What streams cost the event log that nothing happens on, and what is found on them all the same. */
import { expect, test } from 'vitest'
import { UNANSWERED } from '../harness/scripted-server.js'
import { Driver } from './driver.js'
import { type Cluster, called, cluster } from './simulated.js'

/** The longest between two looks at a quiet stream, and at one that is waited for, in ms. */
const LATEST = 24_000
const SOONEST = 3000
/** Until a stream has become a quiet one. */
const SETTLED = 60_000

/** What a node asks the event log in the time to come. */
function meter({ world }: Cluster, node: string) {
  const count = { commands: 0, streams: 0 }
  world.network.interfere = (name, what, args) => {
    if (name !== node || !what.startsWith('events.')) return undefined
    count.commands++
    count.streams += what === 'events.look' ? (args[0] as unknown[]).length : 1
    return undefined
  }
  return count
}

/** Sessions, each with its standalone stream on A, on which nothing has happened for a while. */
async function idle(on: Cluster, count: number) {
  const drivers = await Promise.all(Array.from({ length: count }, () => new Driver(on.world).open(on.A)))
  const visits = drivers.map((driver) => driver.visit(on.A, { method: 'GET' }))
  await on.driver.until(() => visits.every(({ status }) => status === 200))
  await on.world.clock.pass(SETTLED)
  return { drivers, visits }
}

test.each([
  [1, 2],
  [100, 25],
  [1000, 25],
])('%i idle streams cost a node at most %i commands in 24 s', { timeout: 60_000 }, async (count, limit) => {
  const on = await cluster(() => ({}))
  await idle(on, count)
  const cost = meter(on, 'A')
  await on.world.clock.pass(LATEST)
  expect(cost.commands).toBeLessThanOrEqual(limit)
  // Each of them has had its turn.
  expect(cost.streams).toBeGreaterThanOrEqual(count)
  expect(cost.streams).toBeLessThanOrEqual(1.5 * count + 1)
})

test('a message from another node on a quiet stream, whose news is lost, comes within 24 s', async () => {
  const on = await cluster(() => ({}))
  const { drivers, visits } = await idle(on, 3)
  const [driver, visit] = [drivers[0], visits[0]]
  const post = driver?.request(on.B, 5, 'ping')
  await on.driver.until(() => post?.ended === true)
  on.world.network.loss = 1
  await on.on('B')[0]?.say('from B')
  await on.driver.until(() => visit?.messages.length === 1, LATEST + 1000)
  expect(visit?.over).toBe(false)
})

test('the answer of a call that is waited for elsewhere comes within 3 s, though its news is lost', async () => {
  const on = await cluster(() => ({ 'tools/call': () => UNANSWERED }))
  const call = await called(on, 'tools/call', { name: 'plain' })
  const resumed = on.driver.resume(on.B, call.lastEventId)
  await on.driver.until(() => resumed.status === 200)
  await on.world.clock.pass(SETTLED)
  on.world.network.loss = 1
  const [server] = on.on('A')
  const request = server?.all('tools/call')[0]
  if (request) await server?.respond(request, { done: true })
  await on.driver.until(() => resumed.ended, SOONEST + 500)
  expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { done: true } }])
})

test('a call that came back to the node which writes its stream costs no look', async () => {
  const on = await cluster(() => ({ 'tools/call': () => UNANSWERED }))
  const call = await called(on, 'tools/call', { name: 'plain' })
  const resumed = on.driver.resume(on.A, call.lastEventId)
  await on.driver.until(() => resumed.status === 200)
  await on.world.clock.pass(SETTLED)
  const cost = meter(on, 'A')
  await on.world.clock.pass(29_000)
  // The writer keeps its stream, every half minute.
  expect(cost.commands).toBeLessThanOrEqual(1)
})
