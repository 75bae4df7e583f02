/** How far a standalone stream was sent: a client that does not say what it has is sent what nobody has got. */
import { expect, test, vi } from 'vitest'
import { cluster } from './simulated.js'

// the one timer of the source that is imported
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms)),
}))

/** A log that does not take how far a stream was sent, for a second after the first time. */
async function awayFor1s() {
  const on = await cluster(() => ({}))
  const { network, clock } = on.world
  let backAt = Number.POSITIVE_INFINITY
  network.interfere = async (_, what) => {
    if (what !== 'events.sent') return
    backAt = Math.min(backAt, clock.now + 1000)
    if (clock.now < backAt) throw new Error('away')
  }
  const first = on.driver.visit(on.A, { method: 'GET' })
  await on.driver.until(() => first.status === 200)
  await on.on('A')[0]?.say('once')
  await on.driver.until(() => first.messages.length === 1)
  return { ...on, first }
}

test('is written again when the log is back: nothing comes twice when the node dies after that', async () => {
  const { world, driver, A, B } = await awayFor1s()
  await world.clock.pass(2500)
  world.kill(A)
  await world.clock.pass(1000)
  const second = driver.visit(B, { method: 'GET' })
  await world.clock.pass(10_000)
  expect([second.status, second.messages]).toEqual([200, []])
})

test('is written again also when the client has gone meanwhile', async () => {
  const { world, driver, A, B, first } = await awayFor1s()
  first.drop()
  await world.clock.pass(2500)
  world.kill(A)
  await world.clock.pass(1000)
  const second = driver.visit(B, { method: 'GET' })
  await world.clock.pass(10_000)
  expect([second.status, second.messages]).toEqual([200, []])
})
