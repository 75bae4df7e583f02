/** What a server asks as soon as it is initialized: a person is asked once in a session, however often it is restored. */
import { Server as ServerV1 } from '@modelcontextprotocol/sdk/server/index.js'
import { CallToolRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { Server as ServerV2 } from '@modelcontextprotocol/server'
import { describe, expect, onTestFinished, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import type { Backend, JSONRPCRequest, SessionHandlerOptions } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import type { Reply } from '../harness/reply.js'
import { type Script, type ScriptedServer, scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { fakeTime, quiet } from '../harness/time.js'
import { openSession, type WireClient } from '../harness/wire-client.js'

const CAPABILITIES = { roots: {}, elicitation: {}, sampling: {} }
const ANN = { action: 'accept', content: { name: 'Ann' } }

async function next(stream: Reply): Promise<JSONRPCRequest> {
  const event = await stream.next()
  if (!event) throw new Error('the stream has ended')
  return event.message
}

/** What comes on the stream, up to a log message that the server is made to send when all else has been sent. */
async function sent(stream: Reply, server: ScriptedServer): Promise<JSONRPCRequest[]> {
  await quiet()
  await server.say('end')
  const messages: JSONRPCRequest[] = []
  for (;;) {
    const message = await next(stream)
    if (message.params?.data === 'end') return messages
    messages.push(message)
  }
}

const methods = (messages: JSONRPCRequest[]) => messages.map(({ method }) => method)

/** Nodes with one backend and one script, and a client that goes from one to the next. */
function nodes(script: Script, options: SessionHandlerOptions & { backend: Backend }) {
  let stream: Reply | undefined
  let client: WireClient | undefined
  onTestFinished(() => stream?.leave())
  return async (changed: Script = script) => {
    await stream?.leave()
    const factory = scripted(changed)
    const handler = serve(factory, options)
    if (client) await client.on(handler).request('ping')
    else client = await openSession(handler, { capabilities: CAPABILITIES })
    stream = await client.get()
    return { client, stream, server: factory.last }
  }
}

const asks = (...questions: [id: number, method: string, params?: Record<string, unknown>][]): Script => ({
  'notifications/initialized': (_, server) => {
    for (const question of questions) void server.ask(...question)
  },
})

const name = { message: 'Your name?' }

describe('both SDK lines', () => {
  const params = {
    message: 'Your name?',
    requestedSchema: { type: 'object', properties: { name: { type: 'string' } } },
  }
  const prompt = { maxTokens: 1, messages: [{ role: 'user', content: { type: 'text', text: 'A haiku?' } }] }
  const haiku = { model: 'm', role: 'assistant', content: { type: 'text', text: 'old pond' } }

  /** What servers of both lines can do, under the same names. */
  type Asking = Pick<ServerV1, 'connect' | 'close'> & {
    oninitialized?: () => void
    listRoots(): Promise<unknown>
    elicitInput(given: unknown): Promise<{ content?: Record<string, unknown> }>
    createMessage(given: unknown): Promise<{ content: unknown }>
  }

  /** Asks for its client's roots, then two persons' questions, and again in a tool. */
  function build(line: string, log: unknown[], another?: object): Asking {
    const tool = async () => {
      log.push((await server.elicitInput(params)).content)
      return { content: [] }
    }
    const info = { name: 's', version: '1' }
    let server: Asking
    if (line === 'v1') {
      const v1 = new ServerV1(info, { capabilities: { tools: {} } })
      v1.setRequestHandler(CallToolRequestSchema, tool)
      server = v1 as unknown as Asking
    } else {
      const v2 = new ServerV2(info, { capabilities: { tools: {} } })
      v2.setRequestHandler('tools/call', tool)
      server = v2 as unknown as Asking
    }
    server.oninitialized = async () => {
      log.push(await server.listRoots())
      log.push((await server.elicitInput(params)).content)
      log.push((await server.createMessage(prompt)).content)
      if (another) log.push((await server.elicitInput({ ...params, ...another })).content)
      log.push('done')
    }
    return server
  }

  test.each(['v1', 'v2'])(
    '%s: roots are asked for by each instance, a person once; a new question is put',
    async (line) => {
      const backend = memory()
      const log: unknown[] = []
      const client = await openSession(
        serve(() => build(line, log), { backend }),
        { capabilities: CAPABILITIES },
      )
      let stream = await client.get()
      onTestFinished(() => stream.leave())

      const answer = async (method: string, result: Record<string, unknown>) => {
        const asked = await next(stream)
        expect(asked.method).toBe(method)
        expect((await client.respond(asked.id, result)).status).toBe(202)
        return asked
      }
      const roots = async () => {
        await answer('roots/list', { roots: [{ uri: `file:///${log.length}` }] })
        await quiet()
      }
      await roots()
      await answer('elicitation/create', ANN)
      await answer('sampling/createMessage', haiku)
      await quiet()
      const first = [{ roots: [{ uri: 'file:///0' }] }, ANN.content, haiku.content, 'done']
      expect(log).toEqual(first)

      for (let node = 0; node < 2; node++) {
        log.length = 0
        await stream.leave()
        client.on(serve(() => build(line, log), { backend }))
        await client.request('ping')
        stream = await client.get()
        await roots()
        expect(log).toEqual(first)
      }

      // what a tool asks is put to the person, though it is the same question
      const call = client.open({ id: 'call', method: 'tools/call', params: { name: 'x', arguments: {} } })
      await answer('elicitation/create', { action: 'accept', content: { name: 'Bob' } })
      await (await call).answer()
      expect(log.at(-1)).toEqual({ name: 'Bob' })

      log.length = 0
      await stream.leave()
      client.on(serve(() => build(line, log, { message: 'Your age?' }), { backend }))
      await client.request('ping')
      stream = await client.get()
      await roots()
      const asked = await answer('elicitation/create', { action: 'decline' })
      expect(asked.params?.message).toBe('Your age?')
      await quiet()
      expect(log).toEqual([...first.slice(0, -1), undefined, 'done'])
    },
  )
})

describe('a restored instance', () => {
  test('has the answers before its first request', async () => {
    const go = nodes(asks([0, 'elicitation/create', name]), { backend: memory() })
    const first = await go()
    await first.client.respond((await next(first.stream)).id, ANN)
    const { server, stream } = await go()
    expect(server.messages.slice(0, 4)).toMatchObject([
      { method: 'initialize' },
      { method: 'notifications/initialized' },
      { id: 0, result: ANN },
      { method: 'ping' },
    ])
    expect(await sent(stream, server)).toEqual([])
  })

  test('asks again what was open when the node that asked was gone; then the answer is kept', async () => {
    const go = nodes(asks([0, 'elicitation/create', name]), { backend: memory() })
    const dead = await go()
    const unanswered = await next(dead.stream)
    const second = await go()
    const asked = await next(second.stream)
    expect(asked).toMatchObject({ method: 'elicitation/create', params: name })
    expect(asked.id).not.toBe(unanswered.id)
    expect((await second.client.respond(asked.id, ANN)).status).toBe(202)
    expect(second.server.answers).toEqual([{ jsonrpc: '2.0', id: 0, result: ANN }])
    const third = await go()
    expect(third.server.answers).toEqual([{ jsonrpc: '2.0', id: 0, result: ANN }])
    expect(await sent(third.stream, third.server)).toEqual([])
  })

  test('gets a refusal, too, as its predecessor did', async () => {
    const go = nodes(asks([0, 'sampling/createMessage', { messages: [] }]), { backend: memory() })
    const first = await go()
    const error = { code: -1, message: 'the user said no' }
    await first.client.post({ id: (await next(first.stream)).id, error })
    const { server, stream } = await go()
    expect(server.answers).toEqual([{ jsonrpc: '2.0', id: 0, error }])
    expect(await sent(stream, server)).toEqual([])
  })

  test('that asks the same twice gets both answers, in order', async () => {
    const go = nodes(asks([0, 'elicitation/create', name], [1, 'elicitation/create', name]), { backend: memory() })
    const first = await go()
    for (const action of ['decline', 'cancel']) await first.client.respond((await next(first.stream)).id, { action })
    const { server, stream } = await go()
    expect(server.answers).toMatchObject([
      { id: 0, result: { action: 'decline' } },
      { id: 1, result: { action: 'cancel' } },
    ])
    expect(await sent(stream, server)).toEqual([])
  })

  test('asks anew what differs, or is on behalf of a call, or runs as a task', async () => {
    const script = asks(
      [0, 'elicitation/create', { ...name, _meta: { progressToken: 0 } }],
      [1, 'elicitation/create', { message: 'Your age?' }],
      [2, 'elicitation/create', { message: 'Later?', task: { ttl: 1000 } }],
    )
    const go = nodes(script, { backend: memory() })
    const first = await go()
    for (let i = 0; i < 3; i++) await first.client.respond((await next(first.stream)).id, ANN)
    const changed: Script = {
      ...asks(
        [5, 'elicitation/create', { ...name, _meta: { progressToken: 5 } }],
        [6, 'elicitation/create', { message: 'Your age, please?' }],
        [7, 'elicitation/create', { message: 'Later?', task: { ttl: 1000 } }],
      ),
      'tools/call': async (_, server) => {
        await server.ask(8, 'elicitation/create', { message: 'Your age?' })
        return {}
      },
    }
    const { server, stream, client } = await go(changed)
    expect(server.answers).toEqual([{ jsonrpc: '2.0', id: 5, result: ANN }])
    await client.request('tools/call')
    expect((await sent(stream, server)).map(({ params }) => params?.message)).toEqual([
      'Later?',
      'Your age, please?',
      'Your age?',
    ])
  })

  test('that cancels before it is known whether there is an answer: the client hears of neither', async () => {
    const backend = gated()
    const script: Script = {
      'notifications/initialized': (_, server) => {
        void server.ask(0, 'elicitation/create', name)
        void server.notify('notifications/cancelled', { requestId: 0 })
        void server.ask(1, 'roots/list')
      },
    }
    const go = nodes(script, { backend })
    const first = await go()
    expect(methods(await sent(first.stream, first.server))).toEqual([
      'elicitation/create',
      'notifications/cancelled',
      'roots/list',
    ])
    const { server, stream } = await go()
    expect(methods(await sent(stream, server))).toEqual(['roots/list'])
    expect(server.answers).toEqual([])
  })

  test('that closes before it is known puts no question', async () => {
    const backend = gated()
    const go = nodes(asks([0, 'elicitation/create', name]), { backend })
    const { client, stream } = await go()
    await next(stream)
    const lookUp = backend.calls.hold('sessions.getState')
    const factory = scripted(asks([0, 'elicitation/create', name]))
    const there = client.at(serve(factory, { backend }))
    const pinged = there.request('ping')
    await lookUp.reached
    await factory.last.close()
    lookUp.open()
    expect((await pinged).status).toBe(500)
    await quiet()
    expect(factory.last.afterClose).toEqual([])
  })
})

describe('the answer', () => {
  test('is kept before the client hears that it was delivered, on whichever node it arrives', async () => {
    const inner = memory()
    const backend = gated(inner)
    const go = nodes(asks([0, 'elicitation/create', name]), { backend })
    const { client, stream, server } = await go()
    const asked = await next(stream)
    const elsewhere = client.at(serve(scripted(), { backend: inner }))
    await elsewhere.request('ping')
    const keeping = backend.calls.hold('sessions.setState')
    let accepted = false
    const answer = elsewhere.respond(asked.id, ANN).then(({ status }) => {
      accepted = true
      return status
    })
    await keeping.reached
    expect(server.answers).toHaveLength(1)
    await quiet()
    expect(accepted).toBe(false)
    keeping.open()
    expect(await answer).toBe(202)
  })

  test('is accepted after a second if the store does not answer', async () => {
    const backend = gated()
    const go = nodes(asks([0, 'elicitation/create', name]), { backend, onerror: () => {} })
    const { client, stream, server } = await go()
    const asked = await next(stream)
    const pass = fakeTime()
    backend.calls.replace('sessions.setState', () => new Promise(() => {}))
    const answer = client.respond(asked.id, ANN)
    await quiet()
    await pass(1000)
    expect((await answer).status).toBe(202)
    expect(server.answers).toHaveLength(1)
    await pass(10_000)
  })

  test.each([
    ['the store fails', 'x', /setState failed/],
    ['it is too large', 'x'.repeat(256 * 1024), /more than 262144 characters/],
  ])('cannot be kept, because %s: `onerror` is told, and each instance asks', async (why, text, message) => {
    const backend = gated()
    const errors: Error[] = []
    const go = nodes(asks([0, 'elicitation/create', name]), { backend, onerror: (error) => errors.push(error) })
    const { client, stream } = await go()
    const asked = await next(stream)
    const mend = why === 'the store fails' ? backend.calls.fail('sessions.setState') : () => {}
    expect((await client.respond(asked.id, { action: 'accept', content: { text } })).status).toBe(202)
    mend()
    expect(errors.map(String)).toEqual([expect.stringMatching(message)])
    const second = await go()
    expect(methods(await sent(second.stream, second.server))).toEqual(['elicitation/create'])
  })

  test('cannot be read: `onerror` is told, and the question is put', async () => {
    const backend = gated()
    const errors: Error[] = []
    const go = nodes(asks([0, 'elicitation/create', name]), { backend, onerror: (error) => errors.push(error) })
    const { client, stream } = await go()
    await client.respond((await next(stream)).id, ANN)
    backend.calls.fail('sessions.getState')
    const second = await go()
    expect(methods(await sent(second.stream, second.server))).toEqual(['elicitation/create'])
    expect(errors.map(String)).toEqual([expect.stringMatching(/getState failed/)])
  })

  test('is not kept by a store without state: each instance asks', async () => {
    const { getState: _, setState: __, ...sessions } = memory().sessions
    const go = nodes(asks([0, 'elicitation/create', name]), { backend: { sessions } })
    const { client, stream } = await go()
    await client.respond((await next(stream)).id, ANN)
    const second = await go()
    expect(methods(await sent(second.stream, second.server))).toEqual(['elicitation/create'])
  })
})

test('a session whose server asks nobody costs no look at the state', async () => {
  const backend = gated()
  const go = nodes(asks([0, 'roots/list']), { backend })
  const { client, stream } = await go()
  await client.respond((await next(stream)).id, { roots: [] })
  await go()
  expect(backend.calls.count('sessions.getState') + backend.calls.count('sessions.setState')).toBe(0)
})
