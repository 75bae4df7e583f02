import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type ClientOptions, connectClient, type TestClient } from '../harness/client.js'
import { later } from '../harness/later.js'
import { SDKS, type Sdk } from '../harness/server.js'
import { until, within } from '../harness/within.js'
import { connectionTo } from '../http/connection.js'
import { Cli, EVERYTHING, isAlive, type RunOptions, script } from './served.js'

let folder: string
const processes: Cli[] = []
const clients: TestClient[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mcp-roam-serve-'))
})

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()))
  // In an orderly way, so that their children end, too.
  await Promise.all(
    processes.splice(0).map(async (cli) => {
      cli.signal('SIGTERM')
      // Another one, because two of a kind may arrive as one.
      cli.signal('SIGINT')
      await cli.exit()
    }),
  )
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
})

function run(args: string[], options?: RunOptions): Cli {
  const cli = new Cli(args, options)
  processes.push(cli)
  return cli
}

/** A process that serves the command on a SQLite file of the test. */
async function serve(command: string[], flags: string[] = [], options?: RunOptions) {
  const cli = run(
    ['serve', '--port', '0', '--backend', `sqlite:${join(folder, 'sessions.db')}`, ...flags, '--', ...command],
    options,
  )
  return { cli, url: await cli.ready() }
}

async function connect(url: string, sdk: Sdk = 'v1', options?: ClientOptions): Promise<TestClient> {
  const client = await connectClient(sdk, url, options)
  clients.push(client)
  return client
}

const portOf = (url: string) => new URL(url).port

/** The status and body of a plain request, whatever its headers are. */
async function ask(url: string, headers: Record<string, string> = {}, method = 'GET') {
  const req = request(url, { method, headers: { accept: 'text/event-stream', ...headers } }).end()
  const [res] = await within(once(req, 'response'), `an answer of ${url}`)
  let body = ''
  for await (const chunk of res.setEncoding('utf8')) body += chunk
  return { status: res.statusCode as number, body }
}

describe.each(SDKS)('a stdio server behind serve, client %s', (sdk) => {
  it('goes on with the same session after SIGKILL and a restart', async () => {
    const { cli, url } = await serve(EVERYTHING)
    const client = await connect(url, sdk)
    const id = client.sessionId()
    expect(await client.call('echo', { message: 'before' })).toBe('Echo: before')

    await cli.kill()
    await serve(EVERYTHING, ['--port', portOf(url)])

    expect(await client.call('echo', { message: 'after' })).toBe('Echo: after')
    expect(client.sessionId()).toBe(id)
    expect(client.wire.sessionIds).toEqual([id])
    expect(client.wire.count('initialize')).toBe(1)
  })

  it('ends the running request of a child that is killed, and serves the next one', async () => {
    const { cli, url } = await serve(script('tools'))
    const client = await connect(url, sdk)
    const id = client.sessionId()
    const pid = Number(await client.call('pid'))
    const running = later(client.call('wait', { ms: 60_000 }))
    await cli.lines.first((line) => line.endsWith(' waiting'), 'the running call')

    process.kill(pid, 'SIGKILL')

    await expect(within(running, 'the end of the call')).rejects.toThrow(/outcome of this request is unknown/)
    const next = Number(await client.call('pid'))
    expect(next).not.toBe(pid)
    await expect(within(client.call('die'), 'the end of the call')).rejects.toThrow(
      /outcome of this request is unknown/,
    )
    expect(Number(await client.call('pid'))).not.toBe(next)
    expect(client.sessionId()).toBe(id)
    expect(client.wire.count('initialize')).toBe(1)
    expect(cli.log).toContain(`[${id?.slice(0, 8)}] mcp-roam: the server process ended by itself (SIGKILL)`)
  })

  it('brings progress, sampling, elicitation and roots to the client and back', async () => {
    const { url } = await serve(EVERYTHING)
    const client = await connect(url, sdk, {
      handlers: {
        sampling: (prompt) => `sampled: ${prompt}`,
        elicitation: () => ({ action: 'accept', content: { name: 'Ada' } }),
        roots: () => [{ uri: 'file:///somewhere', name: 'somewhere' }],
      },
    })
    const progress: number[] = []
    const long = { duration: 0.3, steps: 3 }
    await client.call('trigger-long-running-operation', long, { onprogress: (step) => progress.push(step.progress) })
    expect(progress).toEqual([1, 2, 3])
    expect(await client.call('trigger-sampling-request', { prompt: 'hello' })).toContain('sampled: ')
    expect(await client.call('trigger-elicitation-request')).toContain('User provided')
    expect(await client.call('get-roots-list')).toContain('file:///somewhere')
  })
})

it('finishes a long call whose process was killed under it, if it is safe to run again', async () => {
  const { cli, url } = await serve(EVERYTHING)
  const client = await connect(url)
  const progress: number[] = []
  let begun = () => {}
  const underway = new Promise<void>((resolve) => {
    begun = resolve
  })
  const onprogress = (step: { progress: number }) => {
    progress.push(step.progress)
    begun()
  }
  const running = later(client.call('trigger-long-running-operation', { duration: 1, steps: 2 }, { onprogress }))
  await within(underway, 'the first progress')

  await cli.kill()
  await serve(EVERYTHING, ['--port', portOf(url)])

  expect(await within(running, 'the answer', 15_000)).toContain('completed')
  expect(progress.at(-1)).toBe(2)
  expect(client.wire.count('tools/call')).toBe(1)
})

describe('the process', () => {
  it('says where it serves in one line on stderr, and nothing on stdout', async () => {
    const { cli, url } = await serve(script('tools'))
    await (await connect(url)).call('pid')
    expect(cli.lines.all).toEqual([
      expect.stringMatching(
        /^mcp-roam: ready at http:\/\/127\.0\.0\.1:\d+\/mcp, node \S+, backend sqlite:\/.*sessions\.db$/,
      ),
    ])
    expect(cli.stdout).toBe('')
  })

  it('passes on what children say, under the session they serve', async () => {
    const { cli, url } = await serve(script('tools'))
    const [a, b] = [await connect(url), await connect(url)]
    await a.call('say', { text: 'from a' })
    await b.call('say', { text: 'from b' })
    await cli.lines.first((line) => line === `[${a.sessionId()?.slice(0, 8)}] from a`, 'the line of a')
    await cli.lines.first((line) => line === `[${b.sessionId()?.slice(0, 8)}] from b`, 'the line of b')
  })

  it('keeps its environment from the child, but for what is given', async () => {
    const env = { MCP_ROAM_SECRET: 'not for children '.repeat(3), PASSED: 'from outside' }
    const { url } = await serve(script('tools'), ['--env', 'GIVEN=a=b', '--env', 'PASSED'], { env })
    const seen = JSON.parse(await (await connect(url)).call('env'))
    expect(seen).toMatchObject({ GIVEN: 'a=b', PASSED: 'from outside', PATH: process.env.PATH })
    expect(JSON.stringify(seen)).not.toContain('MCP_ROAM_SECRET')
  })

  it('finishes running calls on SIGTERM, is unwell meanwhile, and exits with 0', async () => {
    const { cli, url } = await serve(script('tools'), ['--drain-timeout', '60'])
    const client = await connect(url)
    const pid = Number(await client.call('pid'))
    const health = new URL('/healthz', url).href
    expect(await ask(health)).toMatchObject({ status: 200, body: expect.stringContaining('"ready":true') })
    const running = later(client.call('wait', { ms: 60_000 }))
    await cli.lines.first((line) => line.endsWith(' waiting'), 'the running call')

    cli.signal('SIGTERM')
    await cli.lines.first((line) => line === 'mcp-roam: draining', 'the signal')

    expect(await ask(health)).toMatchObject({ status: 503, body: expect.stringContaining('"ready":false') })
    process.kill(pid, 'SIGUSR2')
    expect(await running).toBe('waited')
    expect(await cli.exit()).toBe(0)
    expect(isAlive(pid)).toBe(false)
  })

  it('serves on for the notice after SIGTERM, with 503 from /healthz', async () => {
    const { cli, url } = await serve(script('tools'), ['--drain-notice', '60'])
    const client = await connect(url)
    cli.signal('SIGTERM')
    await cli.lines.first((line) => line === 'mcp-roam: draining', 'the signal')
    expect(await ask(new URL('/healthz', url).href)).toMatchObject({ status: 503 })
    expect(await client.call('release')).toBe('released')
    expect(await (await connect(url)).call('release')).toBe('released')
  })

  it('ends when the notice after SIGTERM is over', async () => {
    const { cli } = await serve(script('tools'), ['--drain-notice', '1.5'])
    const since = performance.now()
    cli.signal('SIGTERM')
    expect(await cli.exit()).toBe(0)
    expect(performance.now() - since).toBeGreaterThan(1_500)
  })

  it('does not wait for a notice after Ctrl-C', async () => {
    const { cli } = await serve(script('tools'), ['--drain-notice', '60'])
    cli.signal('SIGINT')
    expect(await cli.exit()).toBe(0)
  })

  it('hands calls that take longer than the drain timeout over to the next process', async () => {
    const { cli, url } = await serve(script('tools'), ['--drain-timeout', '0.2'])
    const client = await connect(url)
    const running = later(client.call('wait', { ms: 60_000 }))
    await cli.lines.first((line) => line.endsWith(' waiting'), 'the running call')
    cli.signal('SIGTERM')
    expect(await cli.exit()).toBe(0)
    await serve(script('tools'), ['--port', portOf(url)])
    await expect(within(running, 'the end of the call')).rejects.toThrow(/outcome of this request is unknown/)
    expect(await client.call('release')).toBe('released')
    expect(client.wire.count('initialize')).toBe(1)
  })

  it('exits at once on a second signal, and leaves no child behind', async () => {
    const { cli, url } = await serve(script('tools'))
    const client = await connect(url)
    const pid = Number(await client.call('pid'))
    void later(client.call('wait', { ms: 60_000 }))
    await cli.lines.first((line) => line.endsWith(' waiting'), 'the running call')
    cli.signal('SIGINT')
    await cli.lines.first((line) => line === 'mcp-roam: draining', 'the first signal')
    cli.signal('SIGINT')
    expect(await cli.exit()).toBe(130)
    await until(() => !isAlive(pid))
  })

  it('finds the sessions of the same command again, in the state folder', async () => {
    const env = { XDG_STATE_HOME: folder, HOME: folder, LOCALAPPDATA: folder }
    const start = async (port: string) => {
      const cli = run(['serve', '--port', port, '--', ...script('tools')], { env })
      return { cli, url: await cli.ready() }
    }
    const { cli, url } = await start('0')
    expect(cli.log).toContain(`backend sqlite:${folder}`)
    const client = await connect(url)
    await cli.kill()
    await start(portOf(url))
    await client.call('pid')
    expect(client.wire.count('initialize')).toBe(1)
  })

  it('serves the path that it is given, and answers 404 on others', async () => {
    const { url } = await serve(script('tools'), ['--path', '/my/server'])
    expect(new URL(url).pathname).toBe('/my/server')
    expect(await ask(new URL('/mcp', url).href)).toMatchObject({
      status: 404,
      body: expect.stringContaining('/my/server'),
    })
    expect(await (await connect(url)).call('release')).toBe('released')
  })
})

describe('web pages', () => {
  it('are refused unless they are of localhost or named, and so are other names for this host', async () => {
    const { url } = await serve(script('tools'), [
      '--allowed-origin',
      'https://app.example',
      '--allowed-host',
      'roam.example',
    ])
    // What passes the check is a GET without a session: 400.
    expect(await ask(url, { origin: 'https://evil.example' })).toMatchObject({ status: 403 })
    expect(await ask(url, { origin: 'https://app.example' })).toMatchObject({ status: 400 })
    expect(await ask(url, { origin: 'http://localhost:6274' })).toMatchObject({ status: 400 })
    expect(await ask(url, { host: 'rebound.example' })).toMatchObject({ status: 403 })
    expect(await ask(url, { host: 'roam.example' })).toMatchObject({ status: 400 })
    expect(await ask(url)).toMatchObject({ status: 400 })
  })

  it('on loopback need no flag to be refused, and the log says once which one would allow them', async () => {
    const { cli, url } = await serve(script('tools'))
    for (let i = 0; i < 2; i++) expect(await ask(url, { host: 'mcp.example' })).toMatchObject({ status: 403 })
    expect(await ask(url, { host: '[::1]', origin: 'http://app.localhost' })).toMatchObject({ status: 400 })
    const told = () => cli.log.split('\n').filter((line) => line.includes('--allowed-host'))
    await until(() => told().length > 0)
    expect(told()).toEqual([expect.stringContaining('"mcp.example"')])
  })

  it('do not get at /healthz either; health checks, which ask by address, do', async () => {
    const { url } = await serve(script('tools'))
    const health = new URL('/healthz', url).href
    expect(await ask(health)).toMatchObject({ status: 200 })
    expect(await ask(health, { host: '10.1.2.3:3000' })).toMatchObject({ status: 200 })
    expect(await ask(health, { host: '[fd00::1]:3000' })).toMatchObject({ status: 200 })
    const { said } = connectionTo(Number(portOf(url)), 'GET /healthz HTTP/1.0', {})
    expect(await said()).toMatch(/^HTTP\/1\.1 200 /)
    expect(await ask(health, { host: 'rebound.example' })).toMatchObject({ status: 403 })
    expect(await ask(health, { origin: 'https://evil.example' })).toMatchObject({ status: 403 })
  })

  it('elsewhere than on loopback must be named; so must hosts, as soon as one is', async () => {
    const { url } = await serve(script('tools'), ['--host', '0.0.0.0', '--allowed-host', 'roam.example'])
    const at = url.replace('0.0.0.0', '127.0.0.1')
    const health = new URL('/healthz', at).href
    expect(await ask(at, { host: 'roam.example' })).toMatchObject({ status: 400 })
    expect(await ask(at, { host: 'localhost' })).toMatchObject({ status: 400 })
    expect(await ask(at, { host: 'other.example' })).toMatchObject({ status: 403 })
    expect(await ask(at, { host: 'localhost', origin: 'http://localhost' })).toMatchObject({ status: 403 })
    expect(await ask(health, { host: '10.1.2.3:3000' })).toMatchObject({ status: 200 })
    expect(await ask(health, { host: 'other.example' })).toMatchObject({ status: 403 })
  })
})

describe('MCP Inspector', () => {
  it('works against it from the command line', async () => {
    const { url } = await serve(EVERYTHING)
    const manifest = createRequire(import.meta.url).resolve('@modelcontextprotocol/inspector/package.json')
    const { bin } = JSON.parse(readFileSync(manifest, 'utf8')) as { bin: Record<string, string> }
    const inspector = join(dirname(manifest), bin['mcp-inspector'] as string)
    const options = { timeout: 30_000, env: { ...process.env, HOME: folder } }
    const inspect = async (...args: string[]) => {
      const words = [inspector, '--cli', url, '--transport', 'http', '--method', ...args]
      const { stdout } = await promisify(execFile)(process.execPath, words, options)
      return JSON.parse(stdout)
    }
    const { tools } = await inspect('tools/list')
    expect(tools.map((tool: { name: string }) => tool.name)).toContain('echo')
    const { content } = await inspect('tools/call', '--tool-name', 'echo', '--tool-arg', 'message=hello')
    expect(content).toEqual([{ type: 'text', text: 'Echo: hello' }])
  })
})

describe('what cannot be done is said in one line', () => {
  const command = ['--', process.execPath, '-e', '']

  /** What it says and exits with. */
  async function fails(args: string[], options?: RunOptions) {
    const cli = run(['serve', '--port', '0', ...args], options)
    const code = await cli.exit()
    expect(cli.stdout).toBe('')
    return { code, says: cli.log }
  }

  it('a port in use', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    expect(await fails(['--port', String(port), '--backend', 'memory:', ...command])).toEqual({
      code: 1,
      says: `mcp-roam: port ${port} on 127.0.0.1 is in use; choose another with --port`,
    })
    other.close()
  })

  it('an address of another machine', async () => {
    expect(await fails(['--host', '192.0.2.1', '--backend', 'memory:', ...command])).toEqual({
      code: 1,
      says: 'mcp-roam: 192.0.2.1 is not an address of this machine; choose another with --host',
    })
  })

  it('a command that is not there, before the backend is opened', async () => {
    const file = join(folder, 'sessions.db')
    expect(await fails(['--backend', `sqlite:${file}`, '--', 'no-such-command', '--port'])).toEqual({
      code: 1,
      says: 'mcp-roam: command not found: no-such-command',
    })
    expect(existsSync(file)).toBe(false)
  })

  it('a URL of no known backend', async () => {
    expect(await fails(['--backend', 'mysql://root:secret@db', ...command])).toEqual({
      code: 2,
      says: expect.stringMatching(
        /^mcp-roam: bad backend URL: mysql: is unknown, it must be memory:, sqlite:<file>, [^\n]*$/,
      ),
    })
  })

  it('a database that cannot be opened', async () => {
    const { code, says } = await fails(['--backend', `sqlite:${folder}`, ...command])
    expect(code).toBe(1)
    expect(says).toMatch(new RegExp(`^mcp-roam: cannot open sqlite:${folder}: .+$`))
  })

  it('better-sqlite3 that is not installed', async () => {
    const node = ['--import', script('no-sqlite')[1] as string]
    expect(await fails(['--backend', `sqlite:${join(folder, 'sessions.db')}`, ...command], { node })).toEqual({
      code: 1,
      says: 'mcp-roam: SQLite needs a package that is not installed: npm install better-sqlite3, or use --backend memory:',
    })
  })

  it.each([
    [['--port', '70000', ...command], /--port.*0 to 65535/],
    [['--path', 'mcp', ...command], /--path.*begin with a slash/],
    [['--drain-notice', '-1', ...command], /--drain-notice.*number of seconds/],
    [['--drain-timeout', '10s', ...command], /--drain-timeout.*number of seconds/],
    [['--max-sessions', '0', ...command], /--max-sessions.*1 to 100000/],
    [['--idle', '-1', ...command], /--idle.*number of seconds/],
    [['--session-ttl', '0', ...command], /--session-ttl.*number of seconds/],
    [['--rate', '10', ...command], /--rate.*10\/60/],
    [['--env', 'MCP_ROAM_NOT_SET', ...command], /--env.*not set here/],
    [['--no-such-option', ...command], /unknown option '--no-such-option'/],
    [[], /missing required argument 'command'/],
  ])('a command line that is wrong: %j', async (args, message) => {
    const { code, says } = await fails(args)
    expect(code).toBe(2)
    expect(says).toMatch(message)
    expect(says.split('\n').length).toBe(1)
  })
})
