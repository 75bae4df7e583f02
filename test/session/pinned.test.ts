/** A session whose answers never come is not live for ever; one on which somebody says something is. */
import http from 'node:http'
import { describe, expect, test } from 'vitest'
import type { SessionHandler } from '../../src/index.js'
import { listen } from '../harness/door.js'
import { scripted, UNANSWERED } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession, type WireClient } from '../harness/wire-client.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE

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

/** A call whose client waits for the head of the answer, and can go away before there is one; by each of the adapters. */
const CALLS: Record<string, (handler: SessionHandler, client: WireClient) => Promise<() => Promise<void>>> = {
  async node(handler, client) {
    let closed = Promise.resolve()
    const port = await listen((req, res) => {
      closed = new Promise((resolve) => res.once('close', resolve))
      return handler.node(req, res)
    })
    const { method, headers, body } = callOf(client)
    const sent = http
      .request({ host: '127.0.0.1', port, path: '/mcp', method, headers, agent: false })
      .on('error', () => {})
    sent.end(body)
    return () => {
      sent.destroy()
      return closed
    }
  },
  async fetch(handler, client) {
    const gone = new AbortController()
    void handler.fetch(new Request('http://localhost/mcp', { ...callOf(client), signal: gone.signal }))
    return async () => gone.abort()
  },
}

function callOf(client: WireClient) {
  const headers = { accept: 'application/json, text/event-stream', 'content-type': 'application/json' }
  const body = JSON.stringify({ jsonrpc: '2.0', id: 'call', method: 'tools/call', params: { name: 'x' } })
  return { method: 'POST', headers: { ...headers, ...(client.with({}).headers as Record<string, string>) }, body }
}

describe.each(Object.entries(CALLS))('a call by the %s adapter that is answered as JSON', (_, call) => {
  test.each(['json', 'auto'] as const)(
    '%s: keeps its session while its client waits, and no longer',
    async (responseMode) => {
      const pass = fakeTime()
      const factory = scripted({ 'tools/call': () => UNANSWERED })
      const handler = serve(factory, { responseMode, upgradeAfter: Number.POSITIVE_INFINITY })
      const live = async () => (await handler.status()).liveSessions
      const leave = await call(handler, await openSession(handler))
      await factory.last.got('tools/call')
      await pass(2 * HOUR)
      expect(await live()).toBe(1)
      await leave()
      // A client that is gone has not cancelled.
      await pass(4 * MINUTE)
      expect(await live()).toBe(1)
      expect(factory.last.methods).not.toContain('notifications/cancelled')
      await pass(2 * MINUTE)
      expect(await live()).toBe(0)
    },
  )
})

test('a call whose client goes before the stream begins that would answer it keeps no session', async () => {
  const pass = fakeTime()
  const factory = scripted({ 'tools/call': () => UNANSWERED })
  const handler = serve(factory)
  const live = async () => (await handler.status()).liveSessions
  const leave = await CALLS.fetch?.(handler, await openSession(handler))
  await factory.last.got('tools/call')
  await leave?.()
  await pass(4 * MINUTE)
  expect(await live()).toBe(1)
  await pass(2 * MINUTE)
  expect(await live()).toBe(0)
})

describe('a stream whose client has gone, and cannot know it by an event id', () => {
  test.each([
    ['of a version without priming events', { version: '2025-06-18' }, {}],
    ['that never comes back for an answer', {}, { 'user-agent': 'ai-sdk/6.0' }],
  ])('%s: keeps no session', async (_, options, headers) => {
    const pass = fakeTime()
    const handler = serve(scripted({ 'tools/call': () => UNANSWERED }))
    const live = async () => (await handler.status()).liveSessions
    const client = await openSession(handler, options)
    const pending = client.open({ id: 1, method: 'tools/call', params: { name: 'x' } }, { headers })
    await pass(150)
    const stream = await pending
    await pass(2 * HOUR)
    expect(await live()).toBe(1)
    await stream.leave()
    await pass(4 * MINUTE)
    expect(await live()).toBe(1)
    await pass(2 * MINUTE)
    expect(await live()).toBe(0)
  })

  test('unless something was said on it: its client may come back, for an hour', async () => {
    const pass = fakeTime()
    const factory = scripted({ 'tools/call': () => UNANSWERED })
    const handler = serve(factory)
    const client = await openSession(handler, { version: '2025-06-18' })
    const pending = client.open({ id: 1, method: 'tools/call', params: { name: 'x' } })
    await factory.last.got('tools/call')
    await factory.last.say('wait', 1)
    const stream = await pending
    expect((await stream.next())?.message).toMatchObject({ params: { data: 'wait' } })
    await stream.leave()
    await pass(HOUR - MINUTE)
    expect((await handler.status()).liveSessions).toBe(1)
    await pass(7 * MINUTE)
    expect((await handler.status()).liveSessions).toBe(0)
  })
})
