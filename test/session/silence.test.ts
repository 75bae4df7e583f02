/** A request that its server drops in silence ends all the same, if the host program says after how long. */
import { describe, expect, test } from 'vitest'
import { DOORS } from '../harness/door.js'
import { fakeTime, quiet } from '../harness/time.js'
import { request, stage } from '../http/stage.js'

const SILENCE = 60_000
const timedOut = (id: string | number) => ({
  jsonrpc: '2.0',
  id,
  error: { code: -32001, message: 'Request timed out', data: { reason: 'timed-out' } },
})

describe.each(DOORS)('through the %s adapter', (name) => {
  test.each(['auto', 'sse', 'json'] as const)('%s: an error, and its handler is told', async (responseMode) => {
    const pass = fakeTime()
    const at = await stage(name, { responseMode, silence: SILENCE })
    const client = await at.session()
    const pending = client.open(request('x', 'hold'))
    const call = await at.call('x')
    await pass(SILENCE - 1)
    expect(at.server.methods).not.toContain('notifications/cancelled')
    await pass(1)
    expect((await (await pending).answer()).body).toEqual(timedOut('x'))
    expect(at.server.all('notifications/cancelled')).toMatchObject([{ params: { requestId: 'x' } }])
    // Late, and heard by nobody.
    await call.answer()
    expect((await client.post(request('x'))).body).toMatchObject({ id: 'x', result: {} })
    await pass(6 * SILENCE)
    expect((await at.handler.status()).liveSessions).toBe(0)
  })

  test('what is said on behalf of a request, or reports its progress, begins the time anew', async () => {
    const pass = fakeTime()
    const at = await stage(name, { silence: SILENCE })
    const client = await at.session()
    const pending = client.open(request('x', 'hold', { params: { _meta: { progressToken: 'token' } } }))
    const call = await at.call('x')
    await pass(SILENCE - 1)
    await call.say('wait')
    await pass(SILENCE - 1)
    await at.server.notify('notifications/progress', { progressToken: 'token', progress: 1 })
    await pass(SILENCE - 1)
    expect(at.server.methods).not.toContain('notifications/cancelled')
    // Nothing of this request.
    await at.server.say('hello')
    await at.server.notify('notifications/progress', { progressToken: 'other', progress: 1 })
    await pass(1)
    expect((await (await pending).answer()).body).toEqual(timedOut('x'))
  })

  test('the time in which the client owes an answer does not count', async () => {
    const pass = fakeTime()
    const at = await stage(name, { silence: SILENCE })
    const client = await at.session()
    const pending = client.open(request('x', 'hold'))
    const call = await at.call('x')
    await call.ask(0, 'elicitation/create')
    const stream = await pending
    const asked = (await stream.next())?.message
    await pass(10.5 * SILENCE)
    await client.respond(asked.id, { action: 'accept' })
    await pass(SILENCE - 1)
    expect(at.server.methods).not.toContain('notifications/cancelled')
    await pass(1)
    expect((await stream.rest()).map(({ message }) => message)).toEqual([timedOut('x')])
  })

  test('of a batch: what is answered has its answer', async () => {
    const pass = fakeTime()
    const at = await stage(name, { silence: SILENCE, responseMode: 'json' })
    const client = await at.session({ version: '2025-03-26' })
    const pending = client.post([request(1), request(2, 'hold')])
    await at.call(2)
    await quiet()
    await pass(SILENCE)
    expect((await pending).body).toEqual([{ jsonrpc: '2.0', id: 1, result: { echo: null } }, timedOut(2)])
  })

  test('without the option, no request is too long', async () => {
    const pass = fakeTime()
    const at = await stage(name)
    const pending = (await at.session()).open(request('x', 'hold'))
    const call = await at.call('x')
    await pass(50 * SILENCE)
    await call.answer()
    expect((await (await pending).answer()).body).toMatchObject({ result: { done: 'x' } })
  })
})
