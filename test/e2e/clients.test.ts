/** Real clients and a real server of both SDK lines, in every pairing, with mcp-roam between them. */
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import { type ClientHandlers, connectClient, type Elicited, type TestClient } from '../harness/client.js'
import { expectAnswers, FEATURES, HANDLERS, WATCHED } from '../harness/features.js'
import { later } from '../harness/later.js'
import { Recorder } from '../harness/recorder.js'
import { Scene } from '../harness/scene.js'
import { SDKS, type Sdk, startServer, type TestServer } from '../harness/server.js'
import { discard, scratch } from '../services/children.js'

async function connected(sdk: Sdk, server: TestServer, handlers: ClientHandlers = HANDLERS): Promise<TestClient> {
  onTestFailed(() => console.error(server.log))
  const client = await connectClient(sdk, server.url, { handlers })
  onTestFinished(() => client.close())
  return client
}

const SERVERS = SDKS.flatMap((sdk) => [
  { sdk, amnesia: false, how: 'live' },
  { sdk, amnesia: true, how: 'restored for every request' },
])

describe.each(SERVERS)('a server of $sdk, $how', ({ sdk: serverSdk, amnesia }) => {
  let server: TestServer

  beforeAll(async () => {
    server = await startServer({ sdk: serverSdk, amnesia })
    return () => server.kill()
  })

  describe.each(SDKS)('a client of %s', (clientSdk) => {
    test.each(Object.entries(FEATURES))('%s', async (_, feature) => {
      const scene = new Scene(await connected(clientSdk, server), [server])
      expect((await scene.whoami()).session).toMatchObject({ restored: amnesia })
      await feature(scene)
    })
  })
})

describe.each(SDKS)('a server of %s with its sessions in SQLite', (serverSdk) => {
  describe.each(SDKS)('a client of %s', (clientSdk) => {
    let server: TestServer

    beforeEach(async () => {
      const folder = scratch()
      onTestFinished(() => discard(folder))
      const backend = `sqlite:${join(folder, 'sessions.db')}`
      server = await startServer({ sdk: serverSdk, backend, options: { retryInterval: 50 } })
      onTestFinished(() => server.kill())
    })

    test.each(['SIGKILL', 'SIGTERM'])('goes on with its session after %s and a restart', async (signal) => {
      const client = await connected(clientSdk, server)
      const scene = new Scene(client, [server])
      await client.setLevel('error')
      await client.subscribe('test://static-text')
      await client.subscribe(WATCHED)
      await client.unsubscribe('test://static-text')
      await client.call('count')
      const before = await scene.whoami()

      const answered = client.wire.answered.count
      if (signal === 'SIGKILL') await server.kill()
      else await server.terminate()
      await server.start()
      await client.wire.streamOpened(answered)

      let since = scene.now
      await server.notify(WATCHED)
      await scene.updated(WATCHED, since)

      const after = await scene.whoami()
      expect(after.pid).not.toBe(before.pid)
      expect(after.session).toEqual({ ...(before.session as object), restored: true })
      expect({ client: after.client, capabilities: after.capabilities }).toEqual({
        client: before.client,
        capabilities: before.capabilities,
      })
      expect(await client.call('count')).toBe('2')

      since = scene.now
      await client.call('log', { level: 'warning', text: 'quiet' })
      await client.call('log', { level: 'error', text: 'loud' })
      await scene.logged('loud', since)
      expect(scene.logs(since)).toEqual(['loud'])
      expect(await client.call('touch', { uri: WATCHED })).toBe('told')
      await scene.updated(WATCHED, since)
      expect(await client.call('touch', { uri: 'test://static-text' })).toBe('not subscribed')
      for (const aside of [false, true]) await expectAnswers(scene, aside)

      expect(client.wire.count('initialize')).toBe(1)
      expect(client.wire.sessionIds).toEqual([client.sessionId()])
    })

    test('gets the answer of a call that waits for its user while the server drains', async () => {
      const asked = new Recorder<string>()
      let answer = (_: Elicited) => {}
      const elicitation = (message: string) => {
        asked.add(message)
        return new Promise<Elicited>((resolve) => {
          answer = resolve
        })
      }
      const patient = await connected(clientSdk, server, { elicitation })
      const client = await connected(clientSdk, server)
      const call = later(patient.call('ask', { message: 'well?' }))
      await asked.first(() => true, 'the question')
      const ended = later(server.terminate())
      await server.lines.first((line) => line === 'draining', 'the beginning of the drain')
      await expect(client.call('echo', { text: 'too late' })).rejects.toThrow()
      answer({ action: 'decline' })
      expect(await call).toMatch(/^action=decline/)
      await ended
    })
  })
})
