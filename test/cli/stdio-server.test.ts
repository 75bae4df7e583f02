import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { type StdioServer, type StdioServerOptions, stdioServer } from '../../src/cli/stdio/stdio-server.js'
import { until } from '../harness/within.js'
import { FakeTransport } from './fake-transport.js'
import { isAlive } from './served.js'

const child = (name: string) => fileURLToPath(new URL(`children/${name}.js`, import.meta.url))

const servers: StdioServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

function puppet(traits: string[] = [], options: Partial<StdioServerOptions> = {}) {
  const lines: string[] = []
  const errors: string[] = []
  const server = stdioServer({
    command: process.execPath,
    args: [child('puppet'), ...traits],
    grace: 1_000,
    onstderr: (line) => lines.push(line),
    onerror: (error) => errors.push(error.message),
    ...options,
  })
  servers.push(server)
  return { server, lines, errors, transport: new FakeTransport() }
}

async function connected(traits?: string[], options?: Partial<StdioServerOptions>) {
  const made = puppet(traits, options)
  await made.server.connect(made.transport)
  return made
}

const notification = (method: string, params = {}) => ({ jsonrpc: '2.0' as const, method, params })

describe('what goes through the pipes', () => {
  it('carries requests, answers and notifications, whatever characters are in them', async () => {
    const { transport } = await connected()
    const params = { text: 'Ünïcödé 漢字 🦦 \u2028 \n "quoted"' }
    expect(await transport.call('echo', params)).toEqual(params)
    transport.receive(notification('notifications/roots/list_changed'))
    const { message } = await transport.until(
      ({ message }) => 'method' in message && message.method === 'notifications/received',
    )
    expect(JSON.stringify(message)).toContain('roots/list_changed')
  })

  it('puts a message together however its bytes are split, inside a character too', async () => {
    const { transport } = await connected()
    const bytes = Buffer.from(`${JSON.stringify(notification('notifications/message', { data: 'ä漢🦦' }))}\r\n`)
    const pieces = Array.from({ length: 12 }, (_, i) =>
      bytes.subarray((i * bytes.length) / 12, ((i + 1) * bytes.length) / 12),
    )
    await transport.call('write', { pieces: pieces.map((piece) => piece.toString('base64')) })
    expect(transport.sent[0]?.message).toEqual(notification('notifications/message', { data: 'ä漢🦦' }))
  })

  it('takes several messages in one chunk, and a batch in one line', async () => {
    const { transport } = await connected()
    const [a, b, c] = ['a', 'b', 'c'].map((data) => notification('notifications/message', { data }))
    const text = `${JSON.stringify(a)}\n\n${JSON.stringify([b, c])}\n`
    await transport.call('write', { pieces: [Buffer.from(text).toString('base64')] })
    expect(transport.sent.slice(0, 3).map(({ message }) => message)).toEqual([a, b, c])
  })

  it('takes lines of many megabytes, both ways', async () => {
    const { transport } = await connected()
    const params = { text: 'x'.repeat(20 * 1024 * 1024) }
    const result = await transport.call('echo', params)
    expect(result.text === params.text).toBe(true)
  })

  it('does not lose or reorder anything when one side is slower than the other', async () => {
    const { transport, server } = puppet()
    const send = transport.send.bind(transport)
    let sending = 0
    let most = 0
    transport.send = async (message, options) => {
      most = Math.max(most, ++sending)
      await new Promise(setImmediate)
      sending--
      await send(message, options)
    }
    await server.connect(transport)
    const messages = Array.from({ length: 5_000 }, (_, n) =>
      notification('notifications/message', { n, pad: 'x'.repeat(500) }),
    )
    await transport.call('send', { messages })
    expect(transport.sent.slice(0, -1).map(({ message }) => message)).toEqual(messages)
    expect(most).toBeLessThan(1_000)
  })

  it('leaves out of a message what does not belong there, for which a client would ignore it', async () => {
    const { transport } = await connected()
    const first = transport.request('hang')
    const second = transport.request('hang')
    const messages = [
      { id: first, result: { a: 1 }, error: null, trace: 'x' },
      { id: second, error: { code: 1, message: 'no' }, result: null },
      { ...notification('notifications/message', { data: 'x' }), time: 5 },
    ]
    await transport.call('send', { messages })
    expect(transport.sent.slice(0, 3).map(({ message }) => message)).toEqual([
      { jsonrpc: '2.0', id: first, result: { a: 1 } },
      { jsonrpc: '2.0', id: second, error: { code: 1, message: 'no' } },
      notification('notifications/message', { data: 'x' }),
    ])
  })

  it('passes on what is not JSON-RPC as if it were stderr, and goes on', async () => {
    const { transport, lines } = await connected()
    const noise = ['Listening…', '{"json": "but no message"}', '[]', '{"jsonrpc":"2.0","id":null,"result":{}}']
    await transport.call('write', { pieces: [Buffer.from(`${noise.join('\n')}\n`).toString('base64')] })
    await transport.call('complain', { text: 'one\ntwo\n' })
    await until(() => lines.includes('two'))
    expect(lines).toEqual([...noise, 'one', 'two'])
    expect(transport.sent).toHaveLength(2)
  })
})

describe('the request that a message belongs to', () => {
  const progress = (progressToken: unknown) => notification('notifications/progress', { progressToken, progress: 1 })
  const log = notification('notifications/message', { level: 'info', data: 'working' })
  const ask = (id: number, params = {}) => ({ jsonrpc: '2.0' as const, id, method: 'sampling/createMessage', params })
  const withToken = (progressToken: unknown) => ({ _meta: { progressToken } })

  it('is told by the progress token', async () => {
    const { transport } = await connected()
    const first = transport.request('hang', withToken('a'))
    const second = transport.request('hang', withToken(1))
    await transport.call('send', { messages: [progress('a'), progress(1), progress('1'), progress('unknown')] })
    expect(transport.sent.slice(0, 4).map(({ related }) => related)).toEqual([first, second, undefined, undefined])
  })

  it('is the running one, if there is one only, for log messages and requests of the server', async () => {
    const { transport } = await connected()
    transport.receive({ jsonrpc: '2.0', id: 'p', method: 'ping' })
    const id = transport.request('send', { messages: [log, ask(0)] })
    await transport.until(({ message }) => 'id' in message && message.id === id)
    expect(transport.sent.slice(0, 2)).toEqual([
      { message: log, related: id },
      { message: ask(0), related: id },
    ])
  })

  it('is none when several are running, or when the message is about the session', async () => {
    const { transport } = await connected()
    const changed = notification('notifications/tools/list_changed')
    await transport.call('send', { messages: [changed] })
    transport.request('hang')
    await transport.call('send', { messages: [log, ask(0)] })
    expect(transport.sent.filter(({ message }) => 'method' in message).map(({ related }) => related)).toEqual([
      undefined,
      undefined,
      undefined,
    ])
  })

  it('is no longer one that was answered or cancelled', async () => {
    const { transport } = await connected()
    await transport.call('echo', withToken('answered'))
    const cancelled = transport.request('hang', withToken('cancelled'))
    transport.receive(notification('notifications/cancelled', { requestId: cancelled }))
    const id = transport.request('send', { messages: [progress('answered'), progress('cancelled'), log] })
    await transport.until(({ message }) => 'id' in message && message.id === id)
    expect(transport.sent.slice(-4, -1).map(({ related }) => related)).toEqual([undefined, undefined, id])
  })

  it('is that of the request which the server cancels', async () => {
    const { transport } = await connected()
    const first = transport.request('send', { messages: [ask(7)] })
    await transport.until(({ message }) => 'id' in message && message.id === first)
    const cancelled = notification('notifications/cancelled', { requestId: 7 })
    await transport.call('send', { messages: [cancelled] })
    expect(transport.sent.at(-2)).toEqual({ message: cancelled, related: undefined })

    const second = transport.request('send', { messages: [ask(8), { ...cancelled, params: { requestId: 8 } }] })
    await transport.until(({ message }) => 'id' in message && message.id === second)
    expect(transport.sent.slice(-3, -1).map(({ related }) => related)).toEqual([second, second])
  })

  it('is the one that waits for the task that sends it', async () => {
    const { transport } = await connected()
    const related = (taskId: string) => ({ _meta: { 'io.modelcontextprotocol/related-task': { taskId } } })
    transport.request('hang')
    transport.receive({ jsonrpc: '2.0', id: 'result', method: 'tasks/result', params: { taskId: 't1' } })
    await transport.call('send', { messages: [ask(0, related('t1')), ask(1, related('t2'))] })
    const asked = transport.sent.filter(({ message }) => 'method' in message && 'id' in message)
    expect(asked.map(({ related }) => related)).toEqual(['result', undefined])
  })
})

describe('start and end', () => {
  it('closes the transport when the child ends by itself', async () => {
    const { transport, errors, server } = await connected()
    transport.request('exit', { code: 3 })
    await transport.closed
    await server.close()
    expect(errors).toEqual(['the server process ended by itself (exit code 3)'])
    expect(server.pid).toBeUndefined()
  })

  it('closes the transport when the child is killed', async () => {
    const { transport, errors, server } = await connected()
    process.kill(server.pid as number, 'SIGKILL')
    await transport.closed
    expect(errors).toEqual(['the server process ended by itself (SIGKILL)'])
  })

  it('closes the transport when the child runs on but will never answer', async () => {
    const { transport, errors } = await connected()
    transport.request('closeStdout')
    await transport.closed
    expect(errors).toEqual(['the server process closed its stdout'])
  })

  it('gives up on a child that does not read', async () => {
    const { transport, errors, server } = await connected(['deaf'])
    await transport.until(({ message }) => 'method' in message)
    for (let i = 0; i < 10; i++) transport.request('echo', { text: 'x'.repeat(10 * 1024 * 1024) })
    await transport.closed
    await server.close()
    expect(errors).toEqual(['the server process does not read its stdin'])
  })

  it('ends the child by ending its stdin', async () => {
    const { transport, lines, errors, server } = await connected()
    const { pid } = await transport.call('about')
    await server.close()
    expect(isAlive(pid as number)).toBe(false)
    expect(lines).toEqual(['end of stdin'])
    expect(errors).toEqual([])
    expect(transport.isClosed).toBe(true)
  })

  it('ends the child when the transport is closed', async () => {
    const { transport, server } = await connected()
    const { pid } = await transport.call('about')
    await transport.close()
    await server.close()
    expect(isAlive(pid as number)).toBe(false)
  })

  it('follows with SIGTERM and SIGKILL when the child does not end', async () => {
    const { transport, lines, server } = await connected(['stubborn'], { grace: 100 })
    const { pid } = await transport.call('about')
    await server.close()
    expect(isAlive(pid as number)).toBe(false)
    expect(lines).toEqual(['end of stdin', 'SIGTERM'])
  })

  it('ends what the child launched, too', async () => {
    const { transport, server } = await connected([], { args: [child('launcher'), 'stubborn'], grace: 100 })
    const { pid } = await transport.call('about')
    expect(pid).not.toBe(server.pid)
    await server.close()
    await until(() => !isAlive(pid as number))
  })

  it('says clearly what cannot be started', async () => {
    const missing = puppet([], { command: 'no-such-command-here' })
    await expect(missing.server.connect(missing.transport)).rejects.toThrow(/^command not found: no-such-command-here$/)
    const noProgram = puppet([], { command: fileURLToPath(import.meta.url) })
    await expect(noProgram.server.connect(noProgram.transport)).rejects.toThrow(/^not executable: /)
    const nowhere = puppet([], { cwd: '/no/such/folder' })
    await expect(nowhere.server.connect(nowhere.transport)).rejects.toThrow(/^no such folder: \/no\/such\/folder$/)
    await missing.server.close()
  })
})

describe('what the child sees', () => {
  it('gets the harmless part of the environment and what is given to it', async () => {
    process.env.MCP_ROAM_TEST_SECRET = 'secret'
    const { transport } = await connected([], { env: { GIVEN: 'yes' } })
    const env = await transport.call('env')
    delete process.env.MCP_ROAM_TEST_SECRET
    expect(env).toMatchObject({ GIVEN: 'yes', PATH: process.env.PATH })
    expect(Object.keys(env).filter((name) => !/^(HOME|LOGNAME|PATH|SHELL|TERM|USER|GIVEN|__CF.*)$/.test(name))).toEqual(
      [],
    )
  })

  it('gets its arguments untouched by any shell, and its working directory', async () => {
    const cwd = realpathSync(mkdtempSync(join(tmpdir(), 'mcp-roam-stdio-')))
    try {
      const args = ['$HOME', '; echo', '*', 'a b', '"']
      const { transport, server } = await connected(args, { cwd })
      expect(await transport.call('about')).toMatchObject({ args, cwd })
      await server.close()
    } finally {
      rmSync(cwd, { recursive: true })
    }
  })
})
