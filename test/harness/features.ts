/**
 * All of the protocol, as a client goes through it: the same on one node and on several, whose every request takes another way.
 * Each leaves the session so that the next can follow in it.
 */
import { expect } from 'vitest'
import type { ClientHandlers, Elicited } from './client.js'
import { later } from './later.js'
import { Recorder } from './recorder.js'
import type { Scene } from './scene.js'

export const WATCHED = 'test://watched-resource'
const ROOTS = [{ uri: 'file:///project', name: 'project' }]

/** What {@link FEATURES} take a client to answer. */
export const HANDLERS: ClientHandlers = {
  sampling: (prompt) => `answer to ${prompt}`,
  elicitation: (message) => accepted(message),
  roots: () => ROOTS,
}

export function accepted(username: string): Elicited {
  return { action: 'accept', content: { username, email: 'user@example.com' } }
}

/** What the server's questions come to, on the call's own stream or aside. */
export async function expectAnswers({ client }: Scene, aside: boolean): Promise<void> {
  expect(await client.call('sample', { prompt: 'q', aside })).toBe('answer to q')
  expect(await client.call('ask', { message: 'm', aside })).toMatch(/^action=accept, content=.*"username":"m"/)
  expect(JSON.parse(await client.call('roots', { aside }))).toEqual(ROOTS)
}

/** As many as it takes to come by each of three nodes. */
const ROUNDS = 3

export const FEATURES: Record<string, (scene: Scene) => Promise<void>> = {
  'calls tools, and every node knows who it is': async (scene) => {
    const { client, nodes } = scene
    await client.ping()
    expect(client.serverName()).toBe('mcp-roam-fixture')
    expect(await client.tools()).toContain('echo')
    expect(await client.call('echo', { text: 'hello' })).toBe('hello')
    await expect(client.call('test_error_handling')).rejects.toThrow('intentionally')
    const name = `client-${client.sdk}`
    const pids = new Set<number>()
    for (let round = 1; round <= ROUNDS; round++) {
      const { pid, ...answer } = await scene.whoami()
      pids.add(pid)
      expect(answer).toMatchObject({
        client: { name },
        capabilities: { sampling: {}, elicitation: {}, roots: { listChanged: true } },
        session: { id: client.sessionId(), clientInfo: { name } },
      })
      expect(await client.call('count')).toBe(String(round))
      await client.ping()
      await client.ping()
    }
    // 4 requests a round: another node each time, if there are three
    expect(pids.size).toBe(nodes.length)
  },

  'reads resources': async ({ client }) => {
    expect(await client.resources()).toContain('test://static-text')
    expect(await client.templates()).toEqual(['test://template/{id}/data'])
    expect(await client.read('test://static-text')).toBe('This is the content of the static text resource.')
    expect(await client.read('test://static-binary')).toMatch(/^iVBOR/)
    expect(await client.read('test://template/7/data')).toContain('Data for ID: 7')
  },

  'gets prompts and completions': async ({ client }) => {
    expect(await client.prompts()).toContain('test_simple_prompt')
    expect(await client.prompt('test_simple_prompt')).toBe('This is a simple prompt for testing.')
    expect(await client.prompt('test_prompt_with_arguments', { arg1: 'a', arg2: 'b' })).toContain("arg2='b'")
    expect(await client.complete('test_prompt_with_arguments', 'arg1', 'par')).toEqual(['paris', 'park', 'party'])
  },

  'sees progress, in order': async ({ client }) => {
    const seen: unknown[] = []
    const call = client.call(
      'slow',
      { steps: 5, ms: 5 },
      { onprogress: ({ progress, total }) => seen.push([progress, total]) },
    )
    expect(await call).toBe('5 steps')
    expect(seen).toEqual([1, 2, 3, 4, 5].map((step) => [step, 5]))
  },

  'cancels a call: its handler is aborted': async (scene) => {
    const { client, now } = scene
    const cancel = new AbortController()
    const started = new Recorder<number>()
    const options = { signal: cancel.signal, onprogress: () => started.add(1) }
    const call = later(client.call('slow', { steps: 1_000, ms: 10 }, options))
    await started.first(() => true, 'the first progress')
    cancel.abort()
    await expect(call).rejects.toThrow()
    await scene.logged('slow aborted', now)
  },

  'is asked for samples, user input and roots, on the call’s stream and on its own': async (scene) => {
    for (const aside of [false, true]) await expectAnswers(scene, aside)
  },

  'answers many questions at once, each with its own answer': async ({ client }) => {
    const names = Array.from({ length: 12 }, (_, index) => `user ${index}`)
    const answers = await Promise.all(names.map((message, i) => client.call('ask', { message, aside: i % 2 === 0 })))
    expect(answers).toEqual(names.map((name) => expect.stringContaining(`"username":"${name}"`)))
  },

  'tells of changed roots, and is told of changed lists': async (scene) => {
    const { client, now } = scene
    await client.rootsChanged()
    await scene.logged('roots changed', now)
    for (const list of ['tools', 'resources', 'prompts']) {
      await client.call('announce', { list })
      await scene.notified(({ method }) => method === `notifications/${list}/list_changed`, `changed ${list}`, now)
    }
  },

  'is told of updates of what it subscribed to, by whichever node': async (scene) => {
    const { client, nodes } = scene
    expect(await client.call('touch', { uri: WATCHED })).toBe('not subscribed')
    await client.subscribe(WATCHED)
    for (const node of nodes) {
      const before = scene.now
      expect(await client.call('touch', { uri: WATCHED })).toBe('told')
      await scene.updated(WATCHED, before)
      const since = scene.now
      await node.notify('test://static-text')
      await node.notify(WATCHED)
      await scene.updated(WATCHED, since)
    }
    await client.unsubscribe(WATCHED)
    for (const node of nodes) {
      expect(await client.call('touch', { uri: WATCHED })).toBe('not subscribed')
      await node.notify(WATCHED)
    }
    await scene.settled()
    const updates = client.notifications.all.filter(({ method }) => method === 'notifications/resources/updated')
    expect(updates.map(({ params }) => params?.uri)).toEqual(Array(2 * nodes.length).fill(WATCHED))
  },

  // the last one: what is below the level that it sets is not logged any more
  'gets the log messages of the level it set': async (scene) => {
    const { client } = scene
    const before = scene.now
    await client.call('log', { level: 'info', text: 'before' })
    await scene.logged('before', before)
    await client.setLevel('warning')
    const since = scene.now
    for (let i = 0; i < ROUNDS; i++) await client.call('log', { level: 'info', text: 'quiet' })
    const loud = Array.from({ length: ROUNDS }, (_, i) => `loud ${i}`)
    for (const text of loud) await client.call('log', { level: 'error', text })
    for (const text of loud) await scene.logged(text, since)
    expect(scene.logs(since)).toEqual(loud)
  },
}
