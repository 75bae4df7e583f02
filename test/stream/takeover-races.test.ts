/** A stream whose node is gone is finished once, whoever could do it (contract: "Dead node", invariant 4). */
import { describe, expect, test, vi } from 'vitest'
import { type ScriptedServer, UNANSWERED } from '../harness/scripted-server.js'
import { called, cluster, DEAD_AFTER, hangOnA, logOf, type NodeScript, pages, UNKNOWN } from './simulated.js'

// the one timer of the source that is imported
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms)),
}))

describe('several who could finish a stream', () => {
  test('are two nodes, on each of which the client turns up: one of them finishes it', async () => {
    let ranOnB = 0
    let ranOnC = 0
    for (let seed = 0; seed < 200; seed++) {
      const on = await cluster(hangOnA, { seed })
      const call = await called(on, 'tools/call', { name: 'read' })
      on.world.kill(on.A)
      await on.world.clock.pass(seed % 2 ? 6000 : 4800)
      const visits = [on.B, on.C, on.B, on.C].map((node) => on.driver.resume(node, call.lastEventId))
      await on.driver.until(() => visits.some(({ messages }) => messages.length > 0), 15_000, `seed ${seed}`)
      await on.world.clock.pass(1000)
      expect(on.times('tools/call'), `seed ${seed}`).toBe(2)
      ranOnB += on.on('B').reduce((sum, server) => sum + server.all('tools/call').length, 0)
      ranOnC += on.on('C').reduce((sum, server) => sum + server.all('tools/call').length, 0)
      const log = await logOf(on, call.lastEventId)
      expect(log.messages, `seed ${seed}`).toHaveLength(1)
      // one connection a stream: the message went out on one of them
      expect(
        visits.flatMap(({ messages }) => messages),
        `seed ${seed}`,
      ).toEqual(log.messages)
    }
    // or the test would not have been one
    expect(Math.min(ranOnB, ranOnC)).toBeGreaterThan(10)
  })

  test('are two nodes that hear nothing of each other: one of them finishes it', async () => {
    for (let seed = 0; seed < 100; seed++) {
      const slowly: NodeScript = (node) => ({
        'tools/list': pages,
        'tools/call': () =>
          node === 'A' ? UNANSWERED : new Promise((resolve) => setTimeout(() => resolve({ node }), 1500)),
      })
      const on = await cluster(slowly, { seed })
      const call = await called(on, 'tools/call', { name: 'read' })
      // neither takes the connection from the other, and both see that the node is dead
      on.world.network.loss = 1
      on.world.kill(on.A)
      await on.world.clock.pass(4000)
      for (const node of [on.B, on.C]) {
        on.driver.resume(node, call.lastEventId)
        // long enough for a first look into the log, which would tell B of C
        await on.world.clock.pass(300)
      }
      await on.world.clock.pass(DEAD_AFTER + 2000)
      const log = await logOf(on, call.lastEventId)
      expect(log.messages, `seed ${seed}`).toHaveLength(1)
      expect(on.times('tools/call'), `seed ${seed}`).toBe(2)
    }
  })

  test('and the one who does dies, too: the next one finishes it', async () => {
    const on = await cluster((node) => ({
      ...hangOnA(node, false),
      'tools/call': () => (node === 'C' ? { node } : UNANSWERED),
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    on.world.kill(on.A)
    const second = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => on.on('B').some((server) => server.all('tools/call').length > 0), DEAD_AFTER)
    on.world.kill(on.B)
    await on.driver.until(() => second.broken)
    const third = on.driver.resume(on.C, second.lastEventId)
    await on.driver.until(() => third.ended, DEAD_AFTER)
    expect(third.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'C' } }])
    expect(on.times('tools/call')).toBe(3)
  })

  test('and the one who does dies between the claim and the first look at the log: the next one finishes it', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'read' })
    on.world.kill(on.A)
    on.world.network.afterwards = (node, what) => {
      if (node === 'B' && what === 'events.claim') on.world.kill(on.B)
      return undefined
    }
    const second = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => second.broken, DEAD_AFTER)
    const third = on.driver.resume(on.C, call.lastEventId)
    await on.driver.until(() => third.ended, DEAD_AFTER)
    expect(third.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'C' } }])
    expect(on.times('tools/call')).toBe(2)
  })

  test('may be the restarted node, which finishes what its predecessor began', async () => {
    const on = await cluster((node, restored) => ({
      'tools/list': pages,
      'tools/call': () => (restored ? { node } : UNANSWERED),
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    on.world.kill(on.A)
    await on.driver.until(() => call.broken)
    on.world.restart(on.A)
    const resumed = on.driver.resume(on.A, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'A' } }])
  })
})

describe('a node that was only paused', () => {
  test('and comes back after another node has finished its stream is not heard, and its handlers are aborted', async () => {
    let answer = () => {}
    const on = await cluster((node) => ({
      'tools/list': pages,
      'tools/call': (message, server) => {
        if (node !== 'A') return { node }
        answer = () => void server.respond(message, { node })
        return UNANSWERED
      },
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    const [server] = on.on('A') as [ScriptedServer]
    const cancelled = () => server.all('notifications/cancelled').length
    on.world.pause(on.A)
    call.drop()
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
    on.world.resume(on.A)
    on.world.clock.as(
      on.A.owner,
      () => void server.notify('notifications/progress', { progressToken: 't', progress: 9 }, 7),
    )
    await on.driver.until(() => cancelled() > 0 || server.closed, 2000, 'its handlers are aborted')
    on.world.clock.as(on.A.owner, answer)
    await on.world.clock.pass(3000)
    const log = await logOf(on, call.lastEventId)
    expect(log.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
  })

  test('and comes back while another node is at its stream is not heard', async () => {
    const answers = new Map<string, () => void>()
    const on = await cluster((node) => ({
      'tools/list': pages,
      'tools/call': (message, server) => {
        answers.set(node, () => {
          void server.say(node, 7)
          void server.respond(message, { node })
        })
        return UNANSWERED
      },
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    on.world.pause(on.A)
    call.drop()
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => answers.has('B'), DEAD_AFTER)
    // what it says comes before anything that could tell it
    on.world.resume(on.A)
    on.world.clock.as(on.A.owner, () => answers.get('A')?.())
    await on.world.clock.pass(3000)
    expect((await logOf(on, call.lastEventId)).messages).toEqual([])
    on.world.clock.as(on.B.owner, () => answers.get('B')?.())
    await on.driver.until(() => resumed.ended)
    expect(resumed.messages).toEqual([
      { jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data: 'B' } },
      { jsonrpc: '2.0', id: 7, result: { node: 'B' } },
    ])
  })

  test('and comes back: its handlers are aborted even if they say nothing more', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'plain' })
    const [server] = on.on('A') as [ScriptedServer]
    on.world.pause(on.A)
    call.drop()
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, error: UNKNOWN }])
    on.world.resume(on.A)
    const cancelled = () => server.all('notifications/cancelled').length
    await on.driver.until(() => cancelled() > 0 || server.closed, 15_000, 'its handlers are aborted')
  })

  test('and comes back before anybody has claimed its stream goes on with it', async () => {
    let answer = () => {}
    const on = await cluster((node) => ({
      'tools/list': pages,
      'tools/call': (message, server) => {
        answer = () => void server.respond(message, { node })
        return node === 'A' ? UNANSWERED : { node }
      },
    }))
    const call = await called(on, 'tools/call', { name: 'plain' })
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.world.clock.pass(500)
    on.world.pause(on.A)
    await on.world.clock.pass(3000)
    on.world.resume(on.A)
    await on.world.clock.pass(1000)
    on.world.clock.as(on.A.owner, answer)
    await on.driver.until(() => resumed.ended)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'A' } }])
  })
})
