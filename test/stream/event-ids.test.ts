/** Event ids: no two events of a session have the same one, whatever becomes of its nodes. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { type Script, scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime } from '../harness/time.js'
import { openSession, type WireClient } from '../harness/wire-client.js'

test('ids given out after a restore never collide with earlier ones', async () => {
  const backend = memory()
  const script: Script = {
    'tools/call': async (request, server) => {
      await server.notify('notifications/progress', { progress: 1, progressToken: 1 }, request.id)
      await server.say('aside')
      return { content: [] }
    },
  }
  const ids: (string | undefined)[] = []
  let client: WireClient | undefined
  for (let node = 0; node < 4; node++) {
    const handler = serve(scripted(script), { backend })
    client = client ? client.on(handler) : await openSession(handler)
    const standalone = await client.get()
    const answer = await client.post({ id: 1, method: 'tools/call', params: { name: 'x' } })
    expect(answer.events).toHaveLength(2)
    ids.push(...answer.events.map(({ id }) => id), (await standalone.next())?.id)
    await standalone.leave()
  }
  expect(ids).not.toContain(undefined)
  expect(new Set(ids).size).toBe(ids.length)
})

test('ids of nodes whose backend has no event log never collide, though each node keeps a log of its own', async () => {
  const pass = fakeTime()
  const { sessions } = memory()
  const ids = new Set<string | undefined>()
  let client: WireClient | undefined
  for (let node = 0; node < 3; node++) {
    const factory = scripted()
    const handler = serve(factory, { backend: { sessions } })
    client = client ? client.on(handler) : await openSession(handler)
    const standalone = await client.get()
    await factory.last.say(node)
    ids.add((await standalone.next())?.id)
    await handler.close()
    // positions begin at the clock, and no process restarts within a millisecond
    await pass(1)
  }
  expect(ids.size).toBe(3)
})
