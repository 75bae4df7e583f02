/** `serve` has as many children as it was allowed, whoever asks for more, and however slowly they end. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { networkOf } from '../../src/cli/serve/rate.js'
import { ChildPlaces } from '../../src/cli/stdio/child-places.js'
import { urlDoor } from '../harness/door.js'
import { fakeTime } from '../harness/time.js'
import { initialize, initializeMessage, openSession, WireClient } from '../harness/wire-client.js'
import { until } from '../harness/within.js'
import { Cli, script } from './served.js'

const PATIENCE = 60_000

async function serve(command: string[], flags: string[]) {
  const cli = new Cli(['serve', '--port', '0', '--backend', 'memory:', ...flags, '--', ...command])
  onTestFinished(async () => {
    cli.signal('SIGTERM')
    await cli.exit()
  })
  const url = await cli.ready()
  return { cli, url, door: urlDoor(url, PATIENCE) }
}

/** The status of an `initialize` that comes from an address. */
async function initializeFrom(localAddress: string, url: string): Promise<number | undefined> {
  const headers = { accept: 'application/json, text/event-stream', 'content-type': 'application/json' }
  const sent = request(url, { method: 'POST', headers, localAddress, agent: false })
  sent.end(JSON.stringify(initializeMessage()))
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  response.resume()
  return response.statusCode
}

/** Processes that it has started for sessions. */
async function childrenOf({ pid }: Cli, command: string[]): Promise<number> {
  const { stdout } = await promisify(execFile)('ps', ['-A', '-ww', '-o', 'ppid=,args='])
  const lines = stdout.split('\n').map((line) => line.trim())
  return lines.filter((line) => line.startsWith(`${pid} `) && line.includes(command[1] as string)).length
}

test('of 300 sessions that begin at once as many as are allowed get a child, and work', {
  timeout: 120_000,
}, async () => {
  const allowed = 5
  const tools = script('tools')
  const { cli, door } = await serve(tools, ['--max-sessions', String(allowed), '--idle', '2'])
  let most = 0
  const watch = setInterval(async () => {
    most = Math.max(most, await childrenOf(cli, tools))
  }, 100)
  onTestFinished(() => clearInterval(watch))

  const answers = await Promise.all(Array.from({ length: 300 }, () => initialize(door)))
  const begun = answers.filter(({ status }) => status === 200)
  const refused = answers.filter(({ status }) => status !== 200)
  expect(begun.length).toBeGreaterThanOrEqual(allowed)
  expect(refused.length).toBeGreaterThan(200)
  expect(refused.every(({ status, retryAfter }) => status === 503 && retryAfter === '1')).toBe(true)
  expect(await childrenOf(cli, tools)).toBeLessThanOrEqual(allowed)

  const pids = new Set<string>()
  for (const { sessionId = '' } of begun.slice(-allowed)) {
    const client = new WireClient(door, sessionId)
    await client.notify('notifications/initialized')
    const { body } = await client.request('tools/call', { name: 'pid', arguments: {} })
    pids.add(body.result.content[0].text)
  }
  expect(pids.size).toBe(allowed)
  await until(async () => (await childrenOf(cli, tools)) === 0, 'idle children have ended', PATIENCE)
  for (let i = 0; i < allowed; i++) await (await openSession(door)).get()
  expect((await initialize(door)).status).toBe(503)
  expect(most).toBeGreaterThan(0)
  expect(most).toBeLessThanOrEqual(allowed)
})

test('a child that takes its time to end counts until it has, and a new session waits for it', {
  timeout: 60_000,
}, async () => {
  const stubborn = [...script('tools'), 'stubborn']
  const { cli, door } = await serve(stubborn, ['--max-sessions', '1'])
  const client = await openSession(door)
  await client.delete()
  const next = openSession(door)
  let most = 0
  const over = next.then(() => true)
  while (!(await Promise.race([over, new Promise<false>((resolve) => setTimeout(resolve, 50, false))]))) {
    most = Math.max(most, await childrenOf(cli, stubborn))
  }
  expect(most).toBe(1)
  expect((await (await next).request('tools/list')).status).toBe(200)
})

test('a new session takes the place of one without work, which goes on with another child', async () => {
  const tools = script('tools')
  const { cli, door } = await serve(tools, ['--max-sessions', '1'])
  const [older, newer] = [await openSession(door), await openSession(door)]
  for (const client of [newer, older, newer]) expect((await client.request('tools/list')).status).toBe(200)
  expect(await childrenOf(cli, tools)).toBe(1)
  await newer.get()
  expect((await older.request('tools/list')).status).toBe(503)
}, 60_000)

test('--rate: an address that begins too many sessions is told how long to wait', { timeout: 60_000 }, async () => {
  const { door, url } = await serve(script('tools'), ['--rate', '2/50'])
  const answers = [await initialize(door), await initialize(door), await initialize(door)]
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 429])
  expect(Number(answers[2]?.retryAfter)).toBeGreaterThan(30)
  expect(Number(answers[2]?.retryAfter)).toBeLessThanOrEqual(50)
  // others, on the systems that have more addresses of loopback, are not told to wait
  if (process.platform === 'linux') expect(await initializeFrom('127.0.0.2', url)).toBe(200)
  const client = new WireClient(door, answers[0]?.sessionId ?? '')
  expect((await client.request('tools/list')).status).toBe(200)
})

test.each([
  ['192.0.2.7', '192.0.2.7'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['::1', '0:0:0:0::/64'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::', '2001:db8:1:2::/64'],
  ['2001:0db8:1:2::99', '2001:db8:1:2::/64'],
  ['2001:db8::1:2:3:4:5', '2001:db8:0:1::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['', ''],
])('%s counts as %s', (address, network) => {
  expect(networkOf(address)).toBe(network)
})

test('places of children are handed on in order, and refused when none comes free in time', async () => {
  const pass = fakeTime()
  const places = new ChildPlaces(1)
  const free = await places.take()
  const order: string[] = []
  const second = places.take().then((give) => {
    order.push('second')
    return give
  })
  const third = places.take().then(
    () => order.push('third'),
    () => order.push('third refused'),
  )
  free()
  const giveSecond = await second
  await pass(10_000)
  await third
  expect(order).toEqual(['second', 'third refused'])
  giveSecond()
  const again = await places.take()
  again()
  await places.take()
})
