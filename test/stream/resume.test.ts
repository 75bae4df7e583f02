/** A client that comes back to a stream, on whichever node: all of what followed, or a status that says why not. */
import { describe, expect, test, vi } from 'vitest'
import { parseEventId } from '../harness/event-id.js'
import { Driver } from './driver.js'
import { cluster, type NodeScript } from './simulated.js'

// the one timer of the source that is imported
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms)),
}))

describe('a client that comes back', () => {
  const talk: NodeScript = () => ({
    'tools/call': async (message, server) => {
      for (let data = 1; data <= 5; data++) await server.say(data, message.id)
      return { done: true }
    },
  })

  async function finished(options: Parameters<typeof cluster>[1] = {}) {
    const on = await cluster(talk, options)
    const call = on.driver.request(on.A, 7, 'tools/call', { name: 'x' })
    await on.driver.until(() => call.ended)
    expect(call.messages).toHaveLength(6)
    const at = (position: number | string) => call.lastEventId?.replace(/\d+$/, String(position))
    return { on, call, at }
  }

  test('for the rest of a finished stream gets it, to the end', async () => {
    const { on, call, at } = await finished()
    for (const node of [on.A, on.B]) {
      for (let position = 0; position < 6; position++) {
        const resumed = on.driver.resume(node, at(position))
        await on.driver.until(() => resumed.ended, 1000)
        expect(resumed.messages).toEqual(call.messages.slice(position))
      }
    }
  })

  test('to a finished stream of which it has everything: 204', async () => {
    const { on, call } = await finished()
    for (const node of [on.A, on.B]) {
      const resumed = on.driver.resume(node, call.lastEventId)
      await on.driver.until(() => resumed.ended, 1000)
      expect(resumed.status).toBe(204)
    }
  })

  test('for what was purged: 400, not a stream with a hole', async () => {
    const { on, at } = await finished({ retention: { maxEvents: 2 } })
    for (const [position, status] of [
      [0, 400],
      [3, 400],
      [4, 200],
    ] as const) {
      const resumed = on.driver.resume(on.B, at(position))
      await on.driver.until(() => resumed.ended, 1000)
      expect(resumed.status, `after ${position}`).toBe(status)
      if (status === 400) expect(JSON.parse(resumed.body).error.code).toBe(-32000)
    }
  })

  test('after the log has forgotten the stream: 400', async () => {
    const { on, at } = await finished({ retention: { ttl: 1000 } })
    await on.world.clock.pass(2000)
    const resumed = on.driver.resume(on.B, at(3))
    await on.driver.until(() => resumed.ended, 1000)
    expect(resumed.status).toBe(400)
  })

  test('with a cursor that is none: 400', async () => {
    const { on, call, at } = await finished()
    const { tag, stream } = parseEventId(call.lastEventId)
    const none = [
      'nonsense',
      `${tag}.${stream}`,
      `${tag}.${stream}.`,
      `${tag}.${stream}.x`,
      `${tag}.${stream}.-1`,
      `${tag}.${stream}.1e1`,
      `${tag}.${stream}.1.1`,
      `${tag}..1`,
      `${tag}.nosuchstream.1`,
      `${tag}.__proto__.0`,
      `${call.lastEventId}x`,
      at('9999999999999999'),
      `${tag}.../../x.1`,
      at('99999999999999999999'),
      at(7),
    ]
    for (const id of none) {
      const resumed = on.driver.resume(on.B, id)
      await on.driver.until(() => resumed.ended, 1000)
      expect(resumed.status, id).toBe(400)
      expect(JSON.parse(resumed.body).error.code, id).toBe(-32000)
    }
  })

  test("with another session's cursor: 400; as another principal: 404", async () => {
    const { on, call, at } = await finished({ principal: 'ann' })
    const other = await new Driver(on.world, { principal: 'ann' }).open(on.B)
    for (const node of [on.A, on.B, on.C]) {
      const stolen = other.resume(node, call.lastEventId)
      await other.until(() => stolen.ended, 1000)
      expect(stolen.status).toBe(400)
      const bob = new Driver(on.world, { principal: 'bob' })
      bob.session = on.driver.session
      const foreign = bob.resume(node, at(0))
      await bob.until(() => foreign.ended, 1000)
      expect(foreign.status).toBe(404)
      expect(JSON.parse(foreign.body).error.code).toBe(-32001)
    }
  })

  test('to a session that was deleted: 404', async () => {
    const { on, at } = await finished()
    const gone = on.driver.visit(on.A, { method: 'DELETE' })
    await on.driver.until(() => gone.ended)
    for (const node of [on.A, on.B]) {
      const resumed = on.driver.resume(node, at(2))
      await on.driver.until(() => resumed.ended, 1000)
      expect(resumed.status).toBe(404)
    }
  })

  test('to the standalone stream, of which the log keeps less: is told so, and goes on from the oldest kept', async () => {
    const on = await cluster(
      () => ({
        'tools/call': async (message, server) => {
          for (let data = 1; data <= 6; data++) await server.say([message.id, data])
          return {}
        },
      }),
      { retention: { maxEvents: 3 } },
    )
    const get = on.driver.visit(on.A, { method: 'GET' })
    await on.driver.until(() => get.lastEventId !== undefined)
    const cursor = get.lastEventId
    get.drop()
    const call = on.driver.request(on.A, 7, 'tools/call')
    await on.driver.until(() => call.ended)
    await on.world.clock.pass(500)
    const resumed = on.driver.resume(on.B, cursor)
    await on.driver.until(() => resumed.messages.length === 4)
    const [lost, ...kept] = resumed.messages
    expect(lost).toMatchObject({ jsonrpc: '2.0', error: { data: { reason: 'messages-lost' } } })
    expect(kept.map(({ params }) => params.data[1])).toEqual([4, 5, 6])
  })
})
