/** The official server with a bit of everything, on stdio, behind three `mcp-roam serve` processes and a proxy without affinity. */
import { join } from 'node:path'
import { beforeAll, describe, expect, onTestFailed, onTestFinished, test } from 'vitest'
import { Cli, EVERYTHING } from '../cli/served.js'
import { type ClientHandlers, type ClientOptions, connectClient, type TestClient } from '../harness/client.js'
import { later } from '../harness/later.js'
import { startProxy, type TestProxy } from '../harness/proxy.js'
import { SDKS, type Sdk } from '../harness/server.js'
import { within } from '../harness/within.js'
import { discard, scratch } from '../services/children.js'
import { A, B, C } from './cluster.js'

const HANDLERS: ClientHandlers = {
  sampling: (prompt) => `sampled: ${prompt}`,
  elicitation: () => ({ action: 'accept', content: { name: 'Ada' } }),
  roots: () => [{ uri: 'file:///somewhere', name: 'somewhere' }],
}

let nodes: Cli[] = []
let proxy: TestProxy

beforeAll(async () => {
  const folder = scratch()
  const backend = `sqlite:${join(folder, 'sessions.db')}`
  nodes = [A, B, C].map(() => new Cli(['serve', '--port', '0', '--backend', backend, '--', ...EVERYTHING]))
  const stop = async () => {
    // Twice is at once, and leaves no child behind.
    for (const node of nodes) node.signal('SIGTERM')
    for (const node of nodes) node.signal('SIGTERM')
    await Promise.all(nodes.map((node) => node.exit()))
    discard(folder)
  }
  try {
    proxy = await startProxy(await Promise.all(nodes.map((node) => node.ready())))
  } catch (error) {
    await stop()
    throw error
  }
  return async () => {
    await proxy.close()
    await stop()
  }
})

async function connect(sdk: Sdk, options: ClientOptions = {}): Promise<TestClient> {
  onTestFailed(() => console.error(nodes.map(({ log }, index) => `--- node ${index}\n${log}`).join('\n')))
  const client = await connectClient(sdk, `${proxy.url}/mcp`, { handlers: HANDLERS, ...options })
  onTestFinished(async () => {
    // Or its children would live on.
    await client.terminate()
    await client.close()
  })
  return client
}

describe.each(SDKS)('a client of %s', (sdk) => {
  test('uses elicitation, sampling, roots and long-running tools, each request on the next node', {
    timeout: 60_000,
  }, async () => {
    const client = await connect(sdk)
    expect(await client.tools()).toContain('trigger-long-running-operation')
    expect(await client.call('echo', { message: 'hello' })).toBe('Echo: hello')
    expect(await client.call('get-sum', { a: 2, b: 3 })).toContain('5')
    expect(await client.call('trigger-sampling-request', { prompt: 'hello' })).toContain('sampled: ')
    expect(await client.call('trigger-elicitation-request')).toContain('User provided')
    expect(await client.call('get-roots-list')).toContain('file:///somewhere')
    const progress: number[] = []
    const long = { duration: 0.4, steps: 4 }
    const options = { onprogress: (step: { progress: number }) => progress.push(step.progress) }
    expect(await client.call('trigger-long-running-operation', long, options)).toContain('completed')
    expect(progress).toEqual([1, 2, 3, 4])
    const [uri] = await client.resources()
    expect(await client.read(String(uri))).not.toBe('')
    const [prompt] = await client.prompts()
    expect(await client.prompt(String(prompt))).not.toBe('')
    expect(client.wire.count('initialize')).toBe(1)
    expect(client.wire.sessionIds).toEqual([client.sessionId()])
    expect(new Set(proxy.passages.map(({ target }) => target)).size).toBe(3)
  })

  test('subscribes on A, has updates sent by B, and hears them on C', { timeout: 60_000 }, async () => {
    const uri = 'demo://resource/dynamic/text/1'
    const client = await connect(sdk, { route: ({ method }) => (method === 'GET' ? C : A) })
    await client.subscribe(uri)
    client.wire.route = ({ method }) => (method === 'GET' ? C : B)
    expect(await client.call('toggle-subscriber-updates')).toContain('Started')
    await client.notifications.first(
      ({ method, params }) => method === 'notifications/resources/updated' && params?.uri === uri,
      'an update of the resource',
    )
    expect(await client.call('toggle-subscriber-updates')).toContain('Stopped')
  })

  test('a long-running call goes on, each step once, when its connection breaks and the rest is heard on another node', {
    timeout: 60_000,
  }, async () => {
    const client = await connect(sdk, {
      route: ({ method, lastEventId }) => (lastEventId ? B : method === 'GET' ? C : A),
    })
    const progress: number[] = []
    let begun = () => {}
    const underway = new Promise<void>((resolve) => {
      begun = resolve
    })
    const options = {
      onprogress: (step: { progress: number }) => {
        progress.push(step.progress)
        begun()
      },
    }
    const call = later(client.call('trigger-long-running-operation', { duration: 2, steps: 10 }, options))
    await within(underway, 'the first step')
    // The client may be answering the server's question for its roots meanwhile, by a POST of its own.
    expect(proxy.cut(({ method, isStream }) => method === 'POST' && isStream)).toBe(1)
    expect(await call).toContain('completed')
    expect(progress).toEqual(Array.from({ length: 10 }, (_, index) => index + 1))
    expect(client.wire.count('tools/call')).toBe(1)
    const resumed = client.wire.answered.all.find(({ lastEventId }) => lastEventId !== undefined)
    expect(resumed).toMatchObject({ node: B, status: 200 })
  })
})
