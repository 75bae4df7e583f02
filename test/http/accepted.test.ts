/** What is accepted, and what every answer of a session carries. */
import { describe, expect, test, vi } from 'vitest'
import { DOORS } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import { sessionIds } from '../harness/serve.js'
import { initializeMessage } from '../harness/wire-client.js'
import { expectRefusal } from './refusal.js'
import { notification, request, stage } from './stage.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  test('an initialize that the server refuses is answered with the server’s error: no session id, nothing stored, no hook', async () => {
    const backend = gated()
    const onSessionInitialized = vi.fn()
    const refuse = () => {
      throw new Error('this version is not spoken here')
    }
    const at = await stage(name, { backend, onSessionInitialized }, { initialize: refuse })
    const answer = await at.send({ body: initializeMessage() })
    const error = { code: -32603, message: 'Error: this version is not spoken here' }
    expect(answer).toMatchObject({ status: 200, body: { jsonrpc: '2.0', id: 'init', error } })
    expect(answer.headers).not.toHaveProperty('mcp-session-id')
    expect(backend.calls.count('sessions.create')).toBe(0)
    expect(onSessionInitialized).not.toHaveBeenCalled()
    expect(await sessionIds(at.handler)).toEqual([])
    expect(at.server.closed).toBe(true)
  })

  test('202 has no body, and carries the session', async () => {
    const at = await stage(name)
    const client = await at.session()
    const accepted = await client.post(notification('notifications/roots/list_changed'))
    expect(accepted).toMatchObject({ status: 202, text: '', headers: { 'mcp-session-id': client.sessionId } })
    await at.server.ask(0, 'roots/list')
    const asked = (await (await client.get()).next())?.message
    const answered = await client.post({ id: asked.id, result: { roots: [] } })
    expect(answered).toMatchObject({ status: 202, text: '', headers: { 'mcp-session-id': client.sessionId } })
    await at.server.answer(0)
    // it may be repeated; once answered, nothing waits for another answer
    expect(await client.post({ id: asked.id, result: { roots: [] } })).toMatchObject({ status: 202, text: '' })
    expectRefusal(await client.post({ id: asked.id, result: {} }), 400, -32000, null)
  })

  test('200, 204 and the answer to DELETE carry the session', async () => {
    const at = await stage(name)
    const client = await at.session()
    const json = await client.post(request(1))
    expect(json).toMatchObject({
      status: 200,
      headers: { 'content-type': 'application/json', 'mcp-session-id': client.sessionId },
    })
    const pending = client.open({ id: 2, method: 'hold' })
    const call = await at.call(2)
    await call.say('x')
    const sse = await pending
    expect(sse).toMatchObject({
      status: 200,
      sessionId: client.sessionId,
      headers: { 'content-type': 'text/event-stream' },
    })
    await call.answer()
    const last = (await sse.rest()).at(-1)
    const nothingLeft = await client.get(last?.id)
    expect(nothingLeft).toMatchObject({ status: 204, sessionId: client.sessionId })
    expect(await nothingLeft.text()).toBe('')
    const get = await client.get()
    expect(get).toMatchObject({
      status: 200,
      sessionId: client.sessionId,
      headers: { 'content-type': 'text/event-stream' },
    })
    expect(await client.delete()).toMatchObject({
      status: 200,
      text: '',
      headers: { 'mcp-session-id': client.sessionId },
    })
    expect(await get.rest()).toEqual([])
  })

  test('the protocol version may be left out, or be any that has sessions', async () => {
    const at = await stage(name)
    const client = await at.session()
    for (const version of [undefined, '2025-03-26', '2025-06-18', '2025-11-25']) {
      expect((await client.post(request(1), { headers: { 'mcp-protocol-version': version } })).status).toBe(200)
    }
  })

  test.each([
    'application/json, text/event-stream',
    'text/event-stream,application/json',
    'Application/JSON, TEXT/Event-Stream',
    'application/json;q=0.5, text/event-stream;q=1.0',
    ' application/json ; charset=utf-8 ,\ttext/event-stream ',
    '*/*',
    'application/*, text/*',
    'text/html, */*;q=0.1',
    'application/*;q=0.2, text/event-stream',
  ])('accepted: Accept %s', async (accept) => {
    const at = await stage(name)
    const client = await at.session()
    expect((await client.post(request(1), { headers: { accept } })).status).toBe(200)
    const get = await client.get(undefined, { headers: { accept } })
    expect(get.status).toBe(200)
    await get.leave()
  })

  test.each([
    'application/json',
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'Application/JSON',
    'application/json ; x=y',
  ])('accepted: Content-Type %s', async (type) => {
    const at = await stage(name)
    const client = await at.session()
    expect((await client.post(request(1), { headers: { 'content-type': type } })).status).toBe(200)
  })
})
