/** A stream whose node is gone is finished once, also while the backend fails. */
import { describe, expect, test, vi } from 'vitest'
import { UNANSWERED } from '../harness/scripted-server.js'
import { deferred } from '../harness/time.js'
import { called, cluster, DEAD_AFTER, hangOnA, logOf, UNKNOWN } from './simulated.js'

// the one timer of the source that is imported
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms)),
}))

describe('a backend that fails while a stream is taken over: one outcome, once', () => {
  const troubles = ['rejects', 'the answer is lost'] as const
  const calls = ['events.claim', 'events.read', 'events.append', 'bus.nodes', 'sessions.look'] as const
  const cases = calls.flatMap((what) =>
    troubles.flatMap((trouble) => [1, 3].map((times) => [what, trouble, times] as const)),
  )

  test.each(cases)('in %s: %s, %i times', async (what, trouble, times) => {
    for (const name of ['read', 'plain']) {
      const on = await cluster(hangOnA, { backendTimeout: 500 })
      const call = await called(on, 'tools/call', { name })
      on.world.kill(on.A)
      await on.driver.until(() => call.broken)
      let left = times
      const fail = (node: string, at: string): Promise<void> | undefined => {
        if (node !== 'B' || at !== what || resumed.status !== 200 || left-- <= 0) return undefined
        return Promise.reject(new Error(`${what} is out of order`))
      }
      on.world.network[trouble === 'rejects' ? 'interfere' : 'afterwards'] = fail
      let resumed = on.driver.resume(on.B, call.lastEventId)
      // a client whose connection ends comes back
      const answered = async () => {
        for (let round = 0; round < 40 && resumed.messages.length === 0; round++) {
          await on.world.clock.pass(500)
          if (resumed.over && resumed.messages.length === 0)
            resumed = on.driver.resume(on.B, resumed.lastEventId ?? call.lastEventId)
        }
      }
      await answered()
      expect(left, 'the fault was met').toBeLessThan(times)
      const outcome = name === 'read' ? { result: { node: 'B' } } : { error: UNKNOWN }
      expect(resumed.messages, name).toEqual([{ jsonrpc: '2.0', id: 7, ...outcome }])
      expect(on.times('tools/call'), name).toBe(name === 'read' ? 2 : 1)
      expect((await logOf(on, call.lastEventId)).messages).toHaveLength(1)
    }
  })

  test.each([true, false])(
    'in a claim whose answer is lost (it was done: %s), while the node comes back',
    async (done) => {
      const on = await cluster(hangOnA)
      const call = await called(on, 'tools/call', { name: 'read' })
      on.world.pause(on.A)
      call.drop()
      let failed = 0
      on.world.network[done ? 'afterwards' : 'interfere'] = (node, what) => {
        if (node !== 'B' || what !== 'events.claim' || failed++ > 0) return undefined
        on.world.resume(on.A)
        return Promise.reject(new Error('the answer was lost'))
      }
      const resumed = on.driver.resume(on.B, call.lastEventId)
      await on.driver.until(() => failed > 0, DEAD_AFTER)
      if (done) {
        await on.driver.until(() => resumed.ended, DEAD_AFTER)
        expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
      } else {
        // it is at work again, and whoever takes its stream or not, does so once
        await on.world.clock.pass(3000)
        on.world.kill(on.A)
        await on.driver.until(() => resumed.ended, DEAD_AFTER)
        expect(resumed.messages).toHaveLength(1)
      }
    },
  )

  test('which forgets the stream when it was taken over: its connection stays, and the answer comes there', async () => {
    const answer = deferred<{ node: string }>()
    const on = await cluster((node) => ({ 'tools/list': () => (node === 'A' ? UNANSWERED : answer.promise) }))
    const call = await called(on, 'tools/list')
    on.world.kill(on.A)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => on.times('tools/list') === 2, DEAD_AFTER)
    const { events } = on.world.network.truth
    const unseen = vi.spyOn(events, 'look').mockImplementation(async (streams) => streams.map(() => undefined))
    const forgotten = vi.spyOn(events, 'read').mockResolvedValue(undefined)
    await on.world.clock.pass(5000)
    expect(forgotten).toHaveBeenCalled()
    forgotten.mockRestore()
    unseen.mockRestore()
    expect(resumed.over).toBe(false)
    answer.resolve({ node: 'B' })
    await on.driver.until(() => resumed.ended)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
  })

  test.each(['rejects', 'hangs', 'flaky'] as const)(
    'with the whole backend, which %s for 4 s in the middle of it',
    async (store) => {
      for (let delay = 0; delay <= 60; delay += 3) {
        const on = await cluster(hangOnA, { backendTimeout: 500, seed: delay })
        const call = await called(on, 'tools/call', { name: 'read' })
        on.world.kill(on.A)
        await on.world.clock.pass(7000)
        let resumed = on.driver.resume(on.B, call.lastEventId)
        await on.world.clock.pass(delay)
        on.world.network.store = store
        await on.world.clock.pass(4000)
        on.world.network.store = 'none'
        for (let round = 0; round < 40 && resumed.messages.length === 0; round++) {
          await on.world.clock.pass(500)
          if (resumed.over && resumed.messages.length === 0) resumed = on.driver.resume(on.B, call.lastEventId)
        }
        // while the store is away, nobody can build the server that would say what is safe
        expect(resumed.messages, `after ${delay} ms`).toHaveLength(1)
        expect((await logOf(on, call.lastEventId)).messages, `after ${delay} ms`).toEqual(resumed.messages)
        expect(on.times('tools/call'), `after ${delay} ms`).toBeLessThanOrEqual(2)
      }
    },
  )
})
