/** `currentSession()`, and the JSON values that belong to a session. */
import { describe, expect, test, vi } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { currentSession, type Session, type SessionState, type SessionStore } from '../../src/index.js'
import { authOf } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { quiet } from '../harness/time.js'
import { openSession } from '../harness/wire-client.js'

/** Characters of JSON text that one value may have. */
const MAX_STATE_VALUE = 1024 * 1024

/** A session, and its state as each of several nodes sees it. */
async function states(nodes: number, backend = gated()) {
  const factory = scripted()
  const client = await openSession(serve(factory, { backend }))
  const states: SessionState[] = [factory.last.context.session.state]
  for (let node = 1; node < nodes; node++) {
    await client.on(serve(factory, { backend })).request('ping')
    states.push(factory.last.context.session.state)
  }
  return { backend, client, states: states as [SessionState, ...SessionState[]] }
}

describe('currentSession()', () => {
  test('outside of a session throws', () => {
    expect(() => currentSession()).toThrow(/outside/)
  })

  test('tells who is served: in handlers, and in what they start', async () => {
    const seen: Session[] = []
    const factory = scripted({
      'tools/call': async () => {
        seen.push(currentSession())
        await new Promise(setImmediate)
        seen.push(currentSession())
        return {}
      },
      'notifications/roots/list_changed': () => seen.push(currentSession()),
    })
    const handler = serve(factory)
    const client = await openSession(handler, { authInfo: authOf('app', 'alice'), capabilities: { sampling: {} } })
    await client.request('resources/subscribe', { uri: 'test://a' })
    await client.request('tools/call')
    await client.notify('notifications/roots/list_changed')
    expect(seen).toHaveLength(3)
    for (const session of seen) {
      expect(session).toMatchObject({
        id: client.sessionId,
        restored: false,
        principal: 'alice@app',
        clientInfo: { name: 'wire-client' },
        clientCapabilities: { sampling: {} },
        protocolVersion: '2025-11-25',
        subscriptions: ['test://a'],
      })
      expect(session.createdAt).toBeInstanceOf(Date)
    }
    expect(() => currentSession()).toThrow()
  })

  test('of two sessions served at once, each handler sees its own', async () => {
    const factory = scripted({
      'tools/call': async () => {
        const before = currentSession().id
        for (let i = 0; i < 5; i++) await new Promise(setImmediate)
        return { before, after: currentSession().id }
      },
    })
    const handler = serve(factory)
    const clients = await Promise.all([1, 2, 3, 4].map(() => openSession(handler)))
    const answers = await Promise.all(clients.map((client) => client.request('tools/call')))
    answers.forEach(({ body }, index) => {
      const id = clients[index]?.sessionId
      expect(body.result).toEqual({ before: id, after: id })
    })
  })

  test('says whether its instance was built by a restore', async () => {
    const backend = memory()
    const script = { 'tools/call': () => ({ restored: currentSession().restored }) }
    const client = await openSession(serve(scripted(script), { backend }))
    expect((await client.request('tools/call')).body.result).toEqual({ restored: false })
    client.on(serve(scripted(script), { backend }))
    expect((await client.request('tools/call')).body.result).toEqual({ restored: true })
  })

  test('sees a subscription that another node has taken', async () => {
    const backend = memory()
    const script = { 'tools/call': () => ({ subscriptions: [...currentSession().subscriptions] }) }
    const here = serve(scripted(script), { backend })
    const there = serve(scripted(script), { backend })
    const client = await openSession(here)
    await client.on(there).request('ping')
    await client.on(here).request('resources/subscribe', { uri: 'test://a' })
    await quiet()
    expect((await client.on(there).request('tools/call')).body.result).toEqual({ subscriptions: ['test://a'] })
  })

  test('tells who is served where a client’s answer arrives, too', async () => {
    const seen: string[] = []
    const factory = scripted({
      'tools/call': (_, server) => {
        void server.ask(0, 'roots/list')
        return {}
      },
    })
    const handler = serve((context) => {
      const server = factory(context)
      return {
        close: async () => (await server).close(),
        connect: async (transport) => {
          await (await server).connect(transport)
          const { onmessage } = transport
          transport.onmessage = (message, extra) => {
            if ('result' in message) seen.push(currentSession().id)
            onmessage?.(message, extra)
          }
        },
      }
    })
    const client = await openSession(handler)
    const stream = await client.get()
    await client.request('tools/call')
    await client.respond((await stream.next())?.message.id, { roots: [] })
    expect(seen).toEqual([client.sessionId])
    await stream.leave()
  })
})

describe('state', () => {
  test('get, set and delete, seen by every node', async () => {
    const { states: all } = await states(3)
    const [one, two, three] = all
    expect(await one.get('k')).toBeUndefined()
    await one.set('k', { deep: [1, null, 'ü\u2028'] })
    expect(await two?.get('k')).toEqual({ deep: [1, null, 'ü\u2028'] })
    await three?.delete('k')
    expect(await one.get('k')).toBeUndefined()
    await one.delete('never there')
    for (const value of [null, false, 0, '', []]) {
      await one.set('falsy', value)
      expect(await two?.get('falsy')).toEqual(value)
    }
  })

  test('keys are taken as they are', async () => {
    const { states: all } = await states(2)
    const keys = ['__proto__', 'constructor', '', ' ', 'a:b', 'ü', '*', '\u0000x']
    for (const key of keys) await all[0].set(key, key)
    for (const key of keys) expect(await all[1]?.get(key)).toBe(key)
  })

  test('two handlers that update at once lose nothing', async () => {
    const { states: all } = await states(4)
    const add = (state: SessionState) => state.update<number>('n', (n = 0) => n + 1)
    const results = await Promise.all(Array.from({ length: 80 }, (_, i) => add(all[i % all.length] as SessionState)))
    expect(await all[0].get('n')).toBe(80)
    expect(new Set(results).size).toBe(80)
  })

  test('an update whose value was changed under it is done again, on what is there now', async () => {
    const { backend, states: all } = await states(2)
    await all[0].set('list', ['first'])
    const gate = backend.calls.hold('sessions.setState')
    const change = vi.fn((list: string[] = []) => [...list, 'mine'])
    const update = all[0].update('list', change)
    await gate.reached
    await all[1]?.set('list', ['theirs'])
    gate.open()
    expect(await update).toEqual(['theirs', 'mine'])
    expect(change).toHaveBeenCalledTimes(2)
  })

  test('removed and set anew meanwhile: the update sees that too', async () => {
    const { backend, states: all } = await states(2)
    await all[0].set('n', 1)
    const gate = backend.calls.hold('sessions.setState')
    const update = all[0].update<number>('n', (n = 100) => n + 1)
    await gate.reached
    await all[1]?.delete('n')
    await all[1]?.set('n', 1000)
    gate.open()
    expect(await update).toBe(1001)
  })

  test('an update to undefined removes; one that throws changes nothing', async () => {
    const { states: all } = await states(1)
    const [state] = all
    await state.set('k', 1)
    await expect(
      state.update('k', () => {
        throw new Error('changed my mind')
      }),
    ).rejects.toThrow('changed my mind')
    expect(await state.get('k')).toBe(1)
    expect(await state.update('k', () => undefined)).toBeUndefined()
    expect(await state.get('k')).toBeUndefined()
    expect(await state.update('k', () => undefined)).toBeUndefined()
  })

  test('what is no JSON is refused, and what is too big', async () => {
    const { backend, states: all } = await states(1)
    const [state] = all
    backend.calls.reset()
    for (const value of [undefined, () => 1, Symbol('x')])
      await expect(state.set('k', value)).rejects.toThrow(TypeError)
    await expect(state.set('k', 1n)).rejects.toThrow(TypeError)
    const circle: Record<string, unknown> = {}
    circle.self = circle
    await expect(state.set('k', circle)).rejects.toThrow(TypeError)
    await expect(state.set('k', 'x'.repeat(MAX_STATE_VALUE - 1))).rejects.toThrow(RangeError)
    await expect(state.update('k', () => 'x'.repeat(MAX_STATE_VALUE))).rejects.toThrow(RangeError)
    expect(backend.calls.count('sessions.setState')).toBe(0)
    await state.set('k', 'x'.repeat(MAX_STATE_VALUE - 2))
    expect(await state.get<string>('k')).toHaveLength(MAX_STATE_VALUE - 2)
  })

  test('beyond limits.stateKeys and limits.state is refused by a RangeError that names the limit, and changes nothing', async () => {
    const factory = scripted()
    const limits = { stateKeys: 2, state: 30 }
    const backend = gated()
    await openSession(serve(factory, { backend, limits }))
    const { state } = factory.last.context.session
    await state.set('a', 1)
    await state.set('b', 'x')
    await expect(state.set('c', 1)).rejects.toThrow(RangeError)
    await expect(state.update('c', () => 1)).rejects.toThrow(/"c".*limits\.stateKeys.*2/)
    expect(await state.get('c')).toBeUndefined()
    await expect(state.set('b', 'x'.repeat(26))).rejects.toThrow(RangeError)
    await expect(state.update('b', () => 'x'.repeat(26))).rejects.toThrow(/"b".*limits\.state.*30/)
    expect(await state.get('b')).toBe('x')
    await state.set('b', 'x'.repeat(25))
    await state.delete('a')
    await state.update('c', () => 1)
  })

  test('has no limit where Infinity says so, and nothing is counted', async () => {
    const factory = scripted()
    const backend = gated()
    const limits = { stateKeys: Number.POSITIVE_INFINITY, state: Number.POSITIVE_INFINITY }
    await openSession(serve(factory, { backend, limits }))
    const gate = backend.calls.hold('sessions.setState')
    const set = factory.last.context.session.state.set('a', 1)
    expect((await gate.reached)[4]).toBeUndefined()
    gate.open()
    await set
  })

  test('of a store that knows no limit works, without one', async () => {
    const { sessions, ...others } = memory()
    const setState: NonNullable<SessionStore['setState']> = (id, key, value, expected) =>
      sessions.setState(id, key, value, expected)
    const factory = scripted()
    await openSession(
      serve(factory, { backend: { ...others, sessions: { ...sessions, setState } }, limits: { state: 1 } }),
    )
    const { state } = factory.last.context.session
    await state.set('key', 'value')
    expect(await state.get('key')).toBe('value')
  })

  test('a handler gets a copy: what it does to it later is its own', async () => {
    const { states: all } = await states(1)
    const value = { list: [1] }
    await all[0].set('k', value)
    value.list.push(2)
    const got = await all[0].get<typeof value>('k')
    got?.list.push(3)
    expect(await all[0].get('k')).toEqual({ list: [1] })
  })

  test('is gone when the session is, and cannot bring it back', async () => {
    const { backend, client, states: all } = await states(2)
    await all[0].set('k', 'secret')
    await client.delete()
    for (const state of all) {
      expect(await state.get('k')).toBeUndefined()
      await expect(state.set('k', 1)).rejects.toThrow(/does not exist/)
      await expect(state.update('k', () => 1)).rejects.toThrow(/does not exist/)
    }
    expect(await backend.sessions.load(client.sessionId)).toBeUndefined()
    expect((await client.request('ping')).status).toBe(404)
  })

  test('of one session is not another’s', async () => {
    const factory = scripted()
    const handler = serve(factory)
    await openSession(handler)
    await openSession(handler)
    const [one, two] = factory.servers.map(({ context }) => context.session.state)
    await one?.set('k', 1)
    expect(await two?.get('k')).toBeUndefined()
  })

  test('is not loaded by a restore, nor by a call that does not ask for it', async () => {
    const { backend, client, states: all } = await states(1)
    await all[0].set('k', 'x'.repeat(1000))
    backend.calls.reset()
    await client.on(serve(scripted(), { backend })).request('tools/list')
    expect(backend.calls.count('sessions.getState')).toBe(0)
    expect(JSON.stringify(await backend.sessions.load(client.sessionId))).not.toContain('xxx')
  })

  test('keys of mcp-roam itself are out of reach', async () => {
    const { states: all } = await states(1)
    const [state] = all
    const key = 'mcp-roam:opening'
    for (const reach of [state.get(key), state.set(key, 1), state.delete(key), state.update(key, () => 1)]) {
      await expect(reach).rejects.toThrow(TypeError)
    }
    await state.set('mcp-roam', 1)
    expect(await state.get('mcp-roam')).toBe(1)
  })

  test('of a store without it: says so, and all else works', async () => {
    const { getState: _, setState: __, ...sessions } = memory().sessions
    const factory = scripted()
    const client = await openSession(serve(factory, { backend: { sessions } }))
    const { state } = factory.last.context.session
    await expect(state.get('k')).rejects.toThrow(/no getState/)
    await expect(state.set('k', 1)).rejects.toThrow(/no getState/)
    expect((await client.request('ping')).status).toBe(200)
  })

  test('of a store that is a class with private fields works: its methods are called on it', async () => {
    class Store implements SessionStore {
      #inner = memory().sessions as Required<SessionStore>
      load(...args: Parameters<SessionStore['load']>) {
        return this.#inner.load(...args)
      }
      create(...args: Parameters<SessionStore['create']>) {
        return this.#inner.create(...args)
      }
      update(...args: Parameters<SessionStore['update']>) {
        return this.#inner.update(...args)
      }
      touch(...args: Parameters<SessionStore['touch']>) {
        return this.#inner.touch(...args)
      }
      delete(...args: Parameters<SessionStore['delete']>) {
        return this.#inner.delete(...args)
      }
      list() {
        return this.#inner.list()
      }
      getState(...args: Parameters<Required<SessionStore>['getState']>) {
        return this.#inner.getState(...args)
      }
      setState(...args: Parameters<Required<SessionStore>['setState']>) {
        return this.#inner.setState(...args)
      }
    }
    const factory = scripted()
    await openSession(serve(factory, { backend: { sessions: new Store() } }))
    const { state } = factory.last.context.session
    await state.set('k', 1)
    expect(await state.update<number>('k', (n = 0) => n + 1)).toBe(2)
  })

  test('a store that fails rejects, and says nothing false', async () => {
    const { backend, states: all } = await states(1)
    const recover = backend.calls.fail('sessions.setState')
    await expect(all[0].set('k', 1)).rejects.toThrow()
    recover()
    expect(await all[0].get('k')).toBeUndefined()
  })

  test('before the session exists (in the factory) it cannot be written', async () => {
    let refused: unknown
    const factory = scripted({}, async ({ session, restored }) => {
      if (!restored) refused = await session.state.set('k', 1).catch((error: unknown) => error)
    })
    const client = await openSession(serve(factory))
    expect(String(refused)).toMatch(/does not exist/)
    expect((await client.request('ping')).status).toBe(200)
  })
})
