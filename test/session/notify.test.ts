/** What the program around a node tells sessions by itself. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { openSession } from '../harness/wire-client.js'

test('a notification to one session reaches it, from whatever node it is sent, and no other session', async () => {
  const backend = memory()
  const here = serve(scripted(), { backend })
  const there = serve(scripted(), { backend })
  const client = await openSession(here)
  const other = await openSession(here)
  const stream = await client.get()
  const silent = await other.get()
  for (const [n, node] of [here, there].entries()) {
    expect(await node.notify.session(client.sessionId, { method: 'notifications/message', params: { data: n } })).toBe(
      true,
    )
  }
  await here.notify.session(other.sessionId, { method: 'notifications/message', params: { data: 'other' } })
  const seen: unknown[] = []
  for await (const { message } of stream) if (seen.push(message.params.data) === 2) break
  expect(seen).toEqual([0, 1])
  for await (const { message } of silent) {
    expect(message.params.data).toBe('other')
    break
  }
})

test('a session that does not exist is told nothing, and leaves nothing behind', async () => {
  const backend = memory()
  expect(await serve(scripted(), { backend }).notify.session('nobody', { method: 'notifications/message' })).toBe(false)
  expect(await backend.events?.read('nobody', 'standalone', 0, 1)).toBeUndefined()
})
