import { once } from 'node:events'
import { Agent, createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { TestClient } from '../harness/client.js'
import { later } from '../harness/later.js'
import { SDKS } from '../harness/server.js'
import { until, within } from '../harness/within.js'
import { runs } from './runs.js'
import { isAlive, script, workersOf } from './served.js'

const test = runs()
const lines: Line[] = []
afterEach(() => {
  for (const line of lines.splice(0)) line.agent.destroy()
})

async function serve(workers: number, flags: string[] = []) {
  const backend = `sqlite:${join(test.folder, 'sessions.db')}`
  const words = ['serve', '--port', '0', '--workers', String(workers), '--backend', backend, ...flags]
  const cli = test.run([...words, '--', ...script('tools')])
  const url = await cli.ready()
  return { cli, url, workers: await workersOf(cli.pid) }
}

/** One connection, and so one worker. */
class Line {
  readonly agent = new Agent({ keepAlive: true, maxSockets: 1 })

  constructor() {
    lines.push(this)
  }

  async ask(url: string, body?: object, headers: Record<string, string> = {}) {
    const req = request(url, {
      agent: this.agent,
      method: body ? 'POST' : 'GET',
      headers: {
        accept: 'application/json, text/event-stream',
        ...(body && { 'content-type': 'application/json' }),
        ...headers,
      },
    }).end(body && JSON.stringify({ jsonrpc: '2.0', ...body }))
    const [res] = await within(once(req, 'response'), `an answer of ${url}`)
    let text = ''
    for await (const chunk of res.setEncoding('utf8')) text += chunk
    return { status: res.statusCode as number, text, session: String(res.headers['mcp-session-id']) }
  }
}

const INITIALIZE = {
  id: 0,
  method: 'initialize',
  params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'line', version: '1' } },
}

/** Resolves when a call of the client has been answered. */
function served(client: TestClient): Promise<void> {
  return until(() => client.call('release').then(Boolean, () => false), 'an answer')
}

/** A connection to each worker, by the id of its node. */
async function lineToEach(url: string, workers: number): Promise<Map<string, Line>> {
  const found = new Map<string, Line>()
  await until(async () => {
    const fresh = Array.from({ length: 8 }, () => new Line())
    const asked = fresh.map(async (line) => {
      const { text } = await line.ask(new URL('/healthz', url).href)
      found.set((JSON.parse(text) as { nodeId: string }).nodeId, line)
    })
    await Promise.all(asked)
    return found.size === workers
  }, 'a connection to each worker')
  return found
}

describe.each(SDKS)('a session on several workers, client %s', (sdk) => {
  it('is served by all of them, and goes on while they are killed one after the other', async () => {
    const { cli, url, workers } = await serve(3)
    expect(workers).toHaveLength(3)
    const client = await test.connect(url, sdk)
    const id = client.sessionId()
    for (const [i, worker] of workers.entries()) {
      process.kill(worker, 'SIGKILL')
      const ended = (line: string) => line === `mcp-roam: worker ${worker} ended (SIGKILL); starting another one`
      await cli.lines.first(ended, 'the end of the worker')
      // What the killed one had taken is lost, and a connection kept to it shows only now that it is.
      await served(client)
      await until(() => cli.lines.all.filter((line) => /worker \d+ is ready, node /.test(line)).length === i + 1)
    }
    expect(await client.call('release')).toBe('released')
    expect(client.sessionId()).toBe(id)
    expect(client.wire.count('initialize')).toBe(1)
    const replaced = await workersOf(cli.pid)
    expect(replaced).toHaveLength(3)
    expect(replaced.filter((pid) => workers.includes(pid))).toEqual([])
  })
})

it('a connection that no worker has taken is not lost with one that is stuck and then killed', async () => {
  const { url, workers } = await serve(2)
  process.kill(workers[0] as number, 'SIGSTOP')
  const asked = Promise.allSettled(Array.from({ length: 20 }, () => new Line().ask(new URL('/healthz', url).href)))
  await new Line().ask(new URL('/healthz', url).href)
  process.kill(workers[0] as number, 'SIGKILL')
  const answered = { status: 'fulfilled', value: expect.objectContaining({ status: 200 }) }
  expect(await asked).toEqual(Array(20).fill(answered))
})

it('when all are killed at once, others serve on the same port', async () => {
  const { url, workers } = await serve(2)
  const client = await test.connect(url)
  for (const worker of workers) process.kill(worker, 'SIGKILL')
  await served(client)
  expect(client.wire.count('initialize')).toBe(1)
})

it('SIGTERM drains one worker last, which serves until the others have finished their calls', async () => {
  const { cli, url, workers } = await serve(2, ['--drain-timeout', '60'])
  const session = (await new Line().ask(url, INITIALIZE)).session
  const each = [...(await lineToEach(url, 2)).values()]
  const headers = { 'mcp-session-id': session, 'mcp-protocol-version': '2025-06-18' }
  const call = (id: number, name: string) => {
    const body = { id, method: 'tools/call', params: { name, arguments: { ms: 60_000 } } }
    return (line: Line) => line.ask(url, body, headers)
  }
  const pids = (await Promise.all(each.map(call(1, 'pid')))).map(({ text }) => Number(/"text":"(\d+)"/.exec(text)?.[1]))
  const running = Promise.allSettled(each.map(call(2, 'wait')))
  await until(() => cli.lines.all.filter((line) => line.endsWith(' waiting')).length === 2)

  cli.signal('SIGTERM')
  await cli.lines.first((line) => line === 'mcp-roam: draining', 'the signal')
  // Soon both have been told. One stops listening, and so the other one answers, whose turn has not come.
  await until(async () => {
    const asked = Array.from({ length: 8 }, () => new Line().ask(new URL('/healthz', url).href))
    const answers = await Promise.all(asked)
    const nodes = new Set(answers.map(({ text }) => (JSON.parse(text) as { nodeId: string }).nodeId))
    return nodes.size === 1 && answers.every(({ status }) => status === 503)
  }, 'one worker that answers, and is draining')
  expect(await new Line().ask(url, INITIALIZE)).toMatchObject({ status: 200 })

  for (const pid of pids) process.kill(pid, 'SIGUSR2')
  const waited = { status: 200, text: expect.stringContaining('"text":"waited"') }
  const answered = { status: 'fulfilled', value: expect.objectContaining(waited) }
  expect(await running).toEqual([answered, answered])
  expect(await cli.exit()).toBe(0)
  expect(workers.some(isAlive)).toBe(false)
})

it('a second signal ends all of them at once', async () => {
  const { cli, url, workers } = await serve(2)
  const client = await test.connect(url)
  const pid = Number(await client.call('pid'))
  void later(client.call('wait', { ms: 60_000 }))
  await cli.lines.first((line) => line.endsWith(' waiting'), 'the running call')
  cli.signal('SIGTERM')
  await cli.lines.first((line) => line === 'mcp-roam: draining', 'the first signal')
  cli.signal('SIGTERM')
  expect(await cli.exit()).toBe(143)
  await until(() => ![...workers, pid].some(isAlive))
})

it('workers end when the process that started them is killed', async () => {
  const { cli, workers } = await serve(2)
  await cli.kill()
  await until(() => !workers.some(isAlive))
})

describe('what cannot be done is said in one line', () => {
  const command = ['--', process.execPath, '-e', '']

  it('workers that keep dying at once', { timeout: 60_000 }, async () => {
    const node = ['--import', script('dying-worker')[1] as string]
    const file = join(test.folder, 'sessions.db')
    const cli = test.run(['serve', '--port', '0', '--workers', '2', '--backend', `sqlite:${file}`, ...command], {
      node,
    })
    expect((await within(cli.ended, 'the end', 50_000)).code).toBe(1)
    expect(cli.lines.all.at(-1)).toBe(
      'mcp-roam: gave up: workers keep ending as soon as they are started (the last one: exit code 7)',
    )
    expect(cli.log).toMatch(/ended \(exit code 7\); starting another one in 1\.6 s/)
  })

  it('sessions in memory, which workers do not share', async () => {
    const { code, says } = await test.ends(['serve', '--workers', '2', '--backend', 'memory:', ...command])
    expect(code).toBe(2)
    expect(says).toMatch(/^mcp-roam: memory: is not shared by processes; with --workers use sqlite:<file>, [^\n]*$/)
  })

  it('a port in use', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const backend = `sqlite:${join(test.folder, 'sessions.db')}`
    const words = ['serve', '--port', String(port), '--workers', '2', '--backend', backend, ...command]
    expect(await test.ends(words)).toMatchObject({
      code: 1,
      says: `mcp-roam: port ${port} on 127.0.0.1 is in use; choose another with --port`,
    })
    other.close()
  })

  it.each([['0'], ['two'], ['1.5']])('%s workers', async (count) => {
    const { code, says } = await test.ends(['serve', '--workers', count, ...command])
    expect(code).toBe(2)
    expect(says).toMatch(/--workers.*a number from 1 on/)
  })
})
