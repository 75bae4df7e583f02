/** A stream whose node is gone is finished where it is followed (contract: "Dead node", invariant 5). */
import { describe, expect, test, vi } from 'vitest'
import { parseEventId } from '../harness/event-id.js'
import { type ScriptedServer, UNANSWERED } from '../harness/scripted-server.js'
import { called, cluster, DEAD_AFTER, hangOnA, logOf, pages, started, UNKNOWN } from './simulated.js'

// the one timer of the source that is imported
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms)),
}))

describe('a request whose node died', () => {
  const safe = [
    'ping',
    'tools/list',
    'prompts/list',
    'prompts/get',
    'resources/list',
    'resources/templates/list',
    'resources/read',
    'completion/complete',
  ]
  test.each(safe)('is run again under its id, in its stream: %s', async (method) => {
    const on = await cluster((node) => ({ [method]: () => (node === 'A' ? UNANSWERED : { node }) }))
    const call = await called(on, method)
    on.world.kill(on.A)
    const killedAt = on.world.clock.now
    await on.driver.until(() => call.broken)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(on.world.clock.now - killedAt).toBeLessThan(DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
    expect(parseEventId(resumed.lastEventId).stream).toBe(parseEventId(call.lastEventId).stream)
    expect(on.times(method)).toBe(2)
    expect(await logOf(on, call.lastEventId)).toMatchObject({ ended: true, last: 1 })
  })

  test.each(['logging/setLevel', 'resources/subscribe', 'something/else'])(
    'is not run again if it may do something: %s',
    async (method) => {
      const on = await cluster((node) => ({ [method]: () => (node === 'A' ? UNANSWERED : {}) }))
      const call = await called(on, method, { level: 'info', uri: 'file:///x' })
      on.world.kill(on.A)
      await on.driver.until(() => call.broken)
      const resumed = on.driver.resume(on.B, call.lastEventId)
      await on.driver.until(() => resumed.ended, DEAD_AFTER)
      expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, error: UNKNOWN }])
      expect(on.times(method)).toBe(1)
    },
  )

  test.each([
    ['read', true],
    ['repeat', true],
    ['plain', false],
    ['destroy', false],
    ['unheard-of', false],
  ])('that calls the tool %s, found on some page of the list: run again: %s', async (name, again) => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name })
    on.world.kill(on.A)
    await on.driver.until(() => call.broken)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    const outcome = again ? { result: { node: 'B' } } : { error: UNKNOWN }
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, ...outcome }])
    expect(on.times('tools/call')).toBe(again ? 2 : 1)
  })

  test('is not run again if the list that would allow it fails', async () => {
    const on = await cluster((node) => ({
      ...hangOnA(node, false),
      'tools/list': () => {
        throw new Error('no list today')
      },
    }))
    const call = await called(on, 'tools/call', { name: 'read' })
    on.world.kill(on.A)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, error: UNKNOWN }])
  })

  test.each([
    ['allows', 'plain', true],
    ['forbids', 'read', false],
  ])('is run again as mayRepeat %s', async (_, name, again) => {
    const asked: unknown[] = []
    const on = await cluster(hangOnA, {
      mayRepeat: (request, safe) => {
        asked.push([request.method, request.params?.name, safe])
        return !safe
      },
    })
    const call = await called(on, 'tools/call', { name })
    on.world.kill(on.A)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(asked).toEqual([['tools/call', name, !again]])
    expect(resumed.messages[0]).toHaveProperty(again ? 'result' : 'error')
  })

  test('is finished when its client comes back hours later', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'read' })
    on.world.kill(on.A)
    await on.world.clock.pass(50 * 60_000)
    const resumed = on.driver.resume(on.C, call.lastEventId)
    // C has only now begun to look at heartbeats, which may all have run out together a moment ago
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'C' } }])
  })

  test('is finished on the node where it is followed already', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'read' })
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.world.clock.pass(8000)
    expect(resumed.messages).toEqual([])
    on.world.kill(on.A)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
  })

  test('that is answered in the log but for the end is ended, and not run again', async () => {
    const on = await cluster((node) => ({ 'tools/call': (_, server) => (node === 'A' ? last(server) : {}) }))
    const last = (server: ScriptedServer) => server.say(1, 7).then(() => UNANSWERED)
    const call = await called(on, 'tools/call', { name: 'read' })
    await on.driver.until(() => call.messages.length === 1)
    on.world.kill(on.A)
    // what the dying node had still sent arrives after it
    const { stream } = parseEventId(call.lastEventId)
    const { events } = on.world.network.truth
    const info = await events.read(on.driver.session as string, stream, 0, 1)
    const answer = JSON.stringify({ jsonrpc: '2.0', id: 7, result: {} })
    const batch = { id: 'late', events: [answer], ...(info?.writer && { writer: info.writer }) }
    expect(await events.append(on.driver.session as string, stream, batch)).toBe(2)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: {} }])
    expect(await logOf(on, call.lastEventId)).toMatchObject({ ended: true, last: 2 })
  })

  test('goes on with its progress where it was, never back', async () => {
    const work = async (server: ScriptedServer, from: number, to: number) => {
      for (let progress = from; progress <= to; progress++) {
        await server.notify('notifications/progress', { progressToken: 't', progress }, 7)
      }
    }
    const on = await cluster((node) => ({
      'resources/read': async (_, server) => {
        await work(server, 1, node === 'A' ? 3 : 5)
        return node === 'A' ? UNANSWERED : { node }
      },
    }))
    const call = await called(on, 'resources/read', { uri: 'x', _meta: { progressToken: 't' } })
    await on.driver.until(() => call.messages.length === 3)
    on.world.kill(on.A)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    const all = [...call.messages, ...resumed.messages]
    expect(all.map(({ params, result }) => params?.progress ?? result)).toEqual([1, 2, 3, 4, 5, { node: 'B' }])
  })

  test('in a batch that was partly answered is run again alone', async () => {
    const on = await cluster(
      (node) => ({
        'tools/list': pages,
        'tools/call': ({ params }) => (node === 'A' && params?.slow ? UNANSWERED : { node }),
      }),
      { version: '2025-03-26' },
    )
    const ask = (id: number, name: string, slow: boolean) => ({
      jsonrpc: '2.0',
      id,
      method: 'tools/call',
      params: { name, slow },
    })
    const batch = [ask(1, 'read', false), ask(2, 'read', true), ask(3, 'plain', true), ask(4, 'plain', false)]
    const call = on.driver.post(on.A, batch)
    await on.driver.until(() => call.messages.length === 2)
    on.world.kill(on.A)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, DEAD_AFTER)
    expect(call.messages.map(({ id }) => id)).toEqual([1, 4])
    expect(resumed.messages.sort((one, other) => one.id - other.id)).toEqual([
      { jsonrpc: '2.0', id: 2, result: { node: 'B' } },
      { jsonrpc: '2.0', id: 3, error: UNKNOWN },
    ])
    expect(on.times('tools/call')).toBe(5)
  })
})

describe('a node that drains', () => {
  test.each([
    ['read', true],
    ['plain', false],
  ])('hands running calls over at once: %s', async (name, again) => {
    for (const mode of ['sse', 'auto'] as const) {
      const on = await cluster(hangOnA, { responseMode: mode, upgradeAfter: 60_000 })
      const call = on.driver.request(on.A, 7, 'tools/call', { name })
      await started(on, 'tools/call')
      on.world.drain(on.A, 0)
      await on.driver.until(() => call.ended, 1000)
      expect(call.messages, mode).toEqual([])
      expect(
        call.blocks.some(({ retry }) => retry !== undefined),
        mode,
      ).toBe(true)
      const resumed = on.driver.resume(on.B, call.lastEventId)
      await on.driver.until(() => resumed.ended, 1500)
      const outcome = again ? { result: { node: 'B' } } : { error: UNKNOWN }
      expect(resumed.messages, mode).toEqual([{ jsonrpc: '2.0', id: 7, ...outcome }])
    }
  })

  test('has a call finished where it is followed', async () => {
    const on = await cluster(hangOnA)
    const call = await called(on, 'tools/call', { name: 'read' })
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.world.clock.pass(500)
    on.world.drain(on.A, 0)
    await on.driver.until(() => resumed.ended, 1500)
    expect(resumed.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'B' } }])
  })

  test('does not hand over a call that ends in time', async () => {
    const on = await cluster((node) => ({
      'tools/call': () => new Promise((resolve) => setTimeout(() => resolve({ node }), 700)),
    }))
    const call = await called(on, 'tools/call', { name: 'plain' })
    on.world.drain(on.A, 2000)
    await on.driver.until(() => call.ended, 1500)
    expect(call.messages).toEqual([{ jsonrpc: '2.0', id: 7, result: { node: 'A' } }])
    expect(on.times('tools/call')).toBe(1)
  })

  test('is not heard when it finishes a call that it has handed over', async () => {
    let answer = () => {}
    const on = await cluster((node) => ({
      'tools/list': pages,
      'tools/call': (message, server) => {
        if (node !== 'A') return { node }
        answer = () => void server.respond(message, { node }).catch(() => {})
        return UNANSWERED
      },
    }))
    const call = await called(on, 'tools/call', { name: 'plain' })
    on.world.drain(on.A, 0)
    await on.driver.until(() => call.over, 1500)
    expect(call.messages).toEqual([])
    on.world.clock.as(on.A.owner, answer)
    const resumed = on.driver.resume(on.B, call.lastEventId)
    await on.driver.until(() => resumed.ended, 1500)
    expect(resumed.messages).toHaveLength(1)
    expect((await logOf(on, call.lastEventId)).messages).toEqual(resumed.messages)
  })
})
