/** Real clients and real servers of both SDK lines, in every pairing, with mcp-roam between them. */
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import type { WhoAmI } from '../fixtures/content.js'
import { type ClientHandlers, connectClient, type Elicited, type TestClient } from '../harness/client.js'
import { Recorder } from '../harness/recorder.js'
import { SDKS, startServer, type TestServer } from '../harness/server.js'
import { discard, scratch } from '../services/children.js'

const WATCHED = 'test://watched-resource'
const ROOTS = [{ uri: 'file:///project', name: 'project' }]

const HANDLERS: ClientHandlers = {
  sampling: (prompt) => `answer to ${prompt}`,
  elicitation: (message) => ({ action: 'accept', content: { username: message, email: 'user@example.com' } }),
  roots: () => ROOTS,
}

let client: TestClient

async function whoami(): Promise<WhoAmI> {
  return JSON.parse(await client.call('whoami')) as WhoAmI
}

function logged(data: string, since = 0) {
  return client.notifications.first(
    ({ method, params }) => method === 'notifications/message' && params?.data === data,
    `the log message ${data}`,
    { since },
  )
}

function logsSince(since: number): unknown[] {
  return client.notifications.all
    .slice(since)
    .filter(({ method }) => method === 'notifications/message')
    .map(({ params }) => params?.data)
}

function updated(uri: string, since = 0) {
  return client.notifications.first(
    ({ method, params }) => method === 'notifications/resources/updated' && params?.uri === uri,
    `an update of ${uri}`,
    { since },
  )
}

/** What makes every feature of one session work, whatever has happened to its instance before. */
async function expectServerRequestsWork(): Promise<void> {
  for (const aside of [false, true]) {
    expect(await client.call('sample', { prompt: 'q', aside })).toBe('answer to q')
    expect(await client.call('ask', { message: 'm', aside })).toMatch(/^action=accept, content=.*"username":"m"/)
    expect(JSON.parse(await client.call('roots', { aside }))).toEqual(ROOTS)
  }
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
    beforeEach(async () => {
      onTestFailed(() => console.error(server.log))
      client = await connectClient(clientSdk, server.url, { handlers: HANDLERS })
      onTestFinished(() => client.close())
    })

    test('calls tools, and the server knows who it is', async () => {
      await client.ping()
      expect(client.serverName()).toBe('mcp-roam-fixture')
      expect(await client.tools()).toContain('echo')
      expect(await client.call('echo', { text: 'hello' })).toBe('hello')
      await expect(client.call('test_error_handling')).rejects.toThrow('intentionally')
      expect(await whoami()).toMatchObject({
        client: { name: `client-${clientSdk}` },
        capabilities: { sampling: {}, elicitation: {}, roots: { listChanged: true } },
        session: { id: client.sessionId(), restored: amnesia, clientInfo: { name: `client-${clientSdk}` } },
      })
    })

    test('reads resources', async () => {
      expect(await client.resources()).toContain('test://static-text')
      expect(await client.templates()).toEqual(['test://template/{id}/data'])
      expect(await client.read('test://static-text')).toBe('This is the content of the static text resource.')
      expect(await client.read('test://static-binary')).toMatch(/^iVBOR/)
      expect(await client.read('test://template/7/data')).toContain('Data for ID: 7')
    })

    test('gets prompts and completions', async () => {
      expect(await client.prompts()).toContain('test_simple_prompt')
      expect(await client.prompt('test_simple_prompt')).toBe('This is a simple prompt for testing.')
      expect(await client.prompt('test_prompt_with_arguments', { arg1: 'a', arg2: 'b' })).toContain("arg2='b'")
      expect(await client.complete('test_prompt_with_arguments', 'arg1', 'par')).toEqual(['paris', 'park', 'party'])
    })

    test('gets the log messages of the level it set', async () => {
      await client.call('log', { level: 'info', text: 'before' })
      await logged('before')
      await client.setLevel('warning')
      const since = client.notifications.count
      await client.call('log', { level: 'info', text: 'quiet' })
      await client.call('log', { level: 'error', text: 'loud' })
      await logged('loud', since)
      expect(logsSince(since)).toEqual(['loud'])
    })

    test('sees progress, in order', async () => {
      const seen: unknown[] = []
      const options = {
        onprogress: ({ progress, total }: { progress: number; total?: number | undefined }) =>
          seen.push([progress, total]),
      }
      expect(await client.call('slow', { steps: 3, ms: 5 }, options)).toBe('3 steps')
      expect(seen).toEqual([
        [1, 3],
        [2, 3],
        [3, 3],
      ])
    })

    test('cancels a call: its handler is aborted', async () => {
      const cancel = new AbortController()
      const started = new Recorder<number>()
      const options = { signal: cancel.signal, onprogress: () => started.add(1) }
      const call = client.call('slow', { steps: 1_000, ms: 10 }, options)
      call.catch(() => {})
      await started.first(() => true, 'the first progress')
      cancel.abort()
      await expect(call).rejects.toThrow()
      await logged('slow aborted')
    })

    test('is asked for samples, user input and roots, on the call’s stream and on its own', async () => {
      await expectServerRequestsWork()
    })

    test('answers many questions at once, each with its own answer', async () => {
      const names = Array.from({ length: 10 }, (_, index) => `user ${index}`)
      const answers = await Promise.all(names.map((message, i) => client.call('ask', { message, aside: i % 2 === 0 })))
      expect(answers).toEqual(names.map((name) => expect.stringContaining(`"username":"${name}"`)))
    })

    test('tells of changed roots, and is told of changed lists', async () => {
      await client.rootsChanged()
      await logged('roots changed')
      for (const list of ['tools', 'resources', 'prompts']) {
        await client.call('announce', { list })
        await client.notifications.first(
          ({ method }) => method === `notifications/${list}/list_changed`,
          `changed ${list}`,
        )
      }
    })

    test('is told of updates of what it subscribed to', async () => {
      expect(await client.call('touch', { uri: WATCHED })).toBe('not subscribed')
      await client.subscribe(WATCHED)
      expect(await client.call('touch', { uri: WATCHED })).toBe('told')
      await updated(WATCHED)
      const since = client.notifications.count
      await server.notify('test://static-text')
      await server.notify(WATCHED)
      await updated(WATCHED, since)
      await client.unsubscribe(WATCHED)
      expect(await client.call('touch', { uri: WATCHED })).toBe('not subscribed')
      await server.notify(WATCHED)
      await client.call('log', { level: 'error', text: 'end' })
      await logged('end', since)
      expect(client.notifications.all.slice(since).map(({ params }) => params?.uri ?? params?.data)).toEqual([
        WATCHED,
        'end',
      ])
    })
  })
})

describe.each(SDKS)('a server of %s with its sessions in SQLite', (serverSdk) => {
  describe.each(SDKS)('a client of %s', (clientSdk) => {
    let server: TestServer

    beforeEach(async () => {
      const folder = scratch()
      onTestFinished(() => discard(folder))
      server = await startServer({
        sdk: serverSdk,
        backend: `sqlite:${join(folder, 'sessions.db')}`,
        options: { retryInterval: 50 },
      })
      onTestFailed(() => console.error(server.log))
      onTestFinished(() => server.kill())
      client = await connectClient(clientSdk, server.url, { handlers: HANDLERS })
      onTestFinished(() => client.close())
    })

    test.each(['SIGKILL', 'SIGTERM'])('goes on with its session after %s and a restart', async (signal) => {
      await client.setLevel('error')
      await client.subscribe('test://static-text')
      await client.subscribe(WATCHED)
      await client.unsubscribe('test://static-text')
      await client.call('count')
      const before = await whoami()

      const answered = client.wire.answered.count
      if (signal === 'SIGKILL') await server.kill()
      else await server.terminate()
      await server.start()
      await client.wire.streamOpened(answered)

      let since = client.notifications.count
      await server.notify(WATCHED)
      await updated(WATCHED, since)

      const after = await whoami()
      expect(after.pid).not.toBe(before.pid)
      expect(after.session).toEqual({ ...(before.session as object), restored: true })
      expect({ client: after.client, capabilities: after.capabilities }).toEqual({
        client: before.client,
        capabilities: before.capabilities,
      })
      expect(await client.call('count')).toBe('2')

      since = client.notifications.count
      await client.call('log', { level: 'warning', text: 'quiet' })
      await client.call('log', { level: 'error', text: 'loud' })
      await logged('loud', since)
      expect(logsSince(since)).toEqual(['loud'])
      expect(await client.call('touch', { uri: WATCHED })).toBe('told')
      await updated(WATCHED, since)
      expect(await client.call('touch', { uri: 'test://static-text' })).toBe('not subscribed')
      await expectServerRequestsWork()

      expect(client.wire.count('initialize')).toBe(1)
      expect(client.wire.sessionIds).toEqual([client.sessionId()])
    })

    test('gets the answer of a call that waits for its user while the server drains', async () => {
      const asked = new Recorder<string>()
      let answer = (_: Elicited) => {}
      const handlers: ClientHandlers = {
        elicitation: (message) => {
          asked.add(message)
          return new Promise((resolve) => {
            answer = resolve
          })
        },
      }
      const patient = await connectClient(clientSdk, server.url, { handlers })
      onTestFinished(() => patient.close())
      const call = patient.call('ask', { message: 'well?' })
      await asked.first(() => true, 'the question')
      const ended = server.terminate()
      await server.lines.first((line) => line === 'draining', 'the beginning of the drain')
      await expect(client.call('echo', { text: 'too late' })).rejects.toThrow()
      answer({ action: 'decline' })
      expect(await call).toMatch(/^action=decline/)
      await ended
    })
  })
})
