/** What docs/costs.md calls one command is one command of Redis. */
import { setTimeout as delay } from 'node:timers/promises'
import { Cluster, Redis } from 'ioredis'
import { expect, onTestFinished, test } from 'vitest'
import { redis } from '../../../src/backend/redis.js'
import { OPERATIONS } from '../../costs/operations.js'
import { costSaid } from '../../costs/page.js'
import { type Cost, Scene } from '../../costs/scene.js'
import { describeWith, redisClusterNodes, redisUrl, unique } from '../../services/use.js'
import { closing } from './fixture.js'

const MAIN = [
  '`initialize` and `notifications/initialized`',
  'a request, answered as JSON, where the session is live',
  'a request, answered by a stream: k messages, one by one, and the answer',
  'a restore: the first request at another node',
  '`logging/setLevel`',
  'a response, at a node that has not',
  'any other notification of the client',
  '`DELETE`',
  '`GET`, the first one',
  '`GET`, in place of a connection of another node',
  'a resume of a running request, at another node',
  'k messages on the standalone stream, one by one: its `GET` is on another node',
  '`notify.session`',
]

/** Commands that clients sent, and what was published to test a subscription. */
type Seen = Cost & { probes: number }

/** What a server is sent about keys of a prefix since it was last asked, once nothing more comes. */
async function monitored(url: string, prefix: string): Promise<() => Promise<string[][]>> {
  const monitor = await new Redis(url).monitor()
  onTestFinished(() => monitor.disconnect())
  let commands: string[][] = []
  monitor.on('monitor', (_time: string, args: string[], source: string) => {
    // What a script does is part of its command.
    if (source !== 'lua' && args.some((arg) => arg.startsWith(`${prefix}:`))) commands.push(args)
  })
  return async () => {
    for (let count = -1; count !== commands.length; ) {
      count = commands.length
      await delay(60)
    }
    const all = commands
    commands = []
    return all
  }
}

/** The same without what nodes do by themselves, counted. */
async function counted(url: string, prefix: string): Promise<() => Promise<Seen>> {
  const taken = await monitored(url, prefix)
  const background = new Set<string>()
  const backend = closing(redis({ url, prefix }))
  await backend.bus.beat('none', 1)
  await backend.sessions.look(['none'])
  await backend.events.look([{ session: 'none', stream: 'none' }])
  await backend.events.keep([{ session: 'none', stream: 'none' }])
  for (const [, script = ''] of await taken()) background.add(script)
  return async () =>
    seenIn(
      (await taken()).filter(([, script = '']) => !background.has(script)),
      prefix,
    )
}

function seenIn(commands: readonly string[][], prefix: string): Seen {
  const seen: Seen = { store: 0, log: 0, bus: 0, messages: 0, probes: 0 }
  for (const [name = '', ...args] of commands) {
    const key = args.find((arg) => arg.startsWith(`${prefix}:`))?.slice(prefix.length + 1) ?? ''
    if (name.toLowerCase() === 'publish') seen[args[1]?.startsWith('?') ? 'probes' : 'messages']++
    else if (key.startsWith('topic:') || key === 'nodes') seen.bus++
    else if (key.startsWith('session:')) seen.store++
    else seen.log++
  }
  return seen
}

describeWith('Redis', await redisUrl(), (url) => {
  test('the server is sent as many commands as the page says', async () => {
    const prefix = unique()
    const take = await counted(url, prefix)
    const scene = new Scene(3, () => closing(redis({ url, prefix })))
    await scene.populate(3)
    const letters = { h: 2, k: 2, s: 1 }
    const sent: Record<string, Omit<Seen, 'probes'>> = {}
    const said: Record<string, Omit<Seen, 'probes'>> = {}
    for (const name of MAIN) {
      const row = OPERATIONS[name]
      const given = { scene, pass: delay as (ms: number) => Promise<void>, ...letters, ...(!row?.h && { h: 1 }) }
      // The server learns the scripts the first time.
      await (await row?.act(given))?.()
      const act = await row?.act(given)
      await delay(1_100)
      await take()
      await act?.()
      if (row?.later) await delay(600)
      const { probes, ...others } = await take()
      sent[name] = others
      // Each node tests its subscriptions every ten seconds besides.
      expect(probes, name).toBeGreaterThanOrEqual(name.startsWith('`GET`') || name.startsWith('a resume') ? 1 : 0)
      await scene.clear()
      const cost = costSaid(name, given)
      said[name] = { ...cost, log: cost.log + (name === '`DELETE`' ? 1 : 0) }
    }
    expect(sent).toEqual(said)
  })
})

describeWith('Redis Cluster', await redisClusterNodes(), (nodes) => {
  test('each session that is looked at takes a command', async () => {
    const prefix = unique()
    const cluster = new Cluster(nodes)
    onTestFinished(() => cluster.disconnect())
    const backend = closing(redis({ client: cluster, prefix }))
    const ids = ['a', 'b', 'c', 'd', 'e']
    const streams = ids.map((session) => ({ session, stream: 'standalone' }))
    const look = async () => {
      await backend.sessions.look(ids)
      await backend.events.look(streams)
      await backend.events.keep(streams)
    }
    // The servers learn the scripts the first time.
    await look()
    const takes = await Promise.all(nodes.map(({ host, port }) => monitored(`redis://${host}:${port}`, prefix)))
    await look()
    const commands = (await Promise.all(takes.map((take) => take()))).flat()
    expect(commands).toHaveLength(3 * ids.length)
  })
})
