/** What a session costs its backend: nothing while it is used, and nothing after it is gone. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import Database from 'better-sqlite3'
import { Redis } from 'ioredis'
import pg from 'pg'
import { expect, onTestFailed, onTestFinished, test } from 'vitest'
import { sqlite } from '../../src/backend/sqlite.js'
import type { WireClient } from '../harness/wire-client.js'
import { until, within } from '../harness/within.js'
import {
  describeWith,
  postgresProgram,
  postgresUrl,
  redisClusterNodes,
  redisProgram,
  redisUrl,
  startPostgres,
  startRedis,
} from '../services/use.js'
import { A, B, C, type Cluster, type ClusterOptions, SQLITE, startCluster } from './cluster.js'

const CALLS = 500
/** A session in use is compared with the store this often by each node, in ms. */
const CHECK_INTERVAL = 2_000
const TOMBSTONE_TTL = 10 * 60_000

async function cluster(options: ClusterOptions): Promise<Cluster> {
  const started = await startCluster(options)
  onTestFinished(() => started.stop())
  onTestFailed(() => console.error(started.log))
  return started
}

interface Meter {
  /** Forgets what was counted. */
  reset(): Promise<void>
  /** What the backend was asked since; `ofSession`: that names the session. */
  read(session: string): Promise<{ all: number; ofSession: number }>
}

/** 500 calls, each on one of the nodes in turn; prints what they cost. */
async function expectFreeCalls(name: string, nodes: Cluster, meter: Meter): Promise<void> {
  const client = await nodes.open()
  const echo = (text: string) => client.request('tools/call', { name: 'echo', arguments: { text } })
  for (const node of [A, B, C]) {
    client.on(nodes.at(node))
    expect((await echo('warm')).status).toBe(200)
  }
  // What is counted lies between these two looks at the clock, however long counting takes.
  const began = Date.now()
  await meter.reset()
  for (let call = 0; call < CALLS; call++) {
    client.on(nodes.at(call % 3))
    expect((await echo(`call ${call}`)).body.result.content[0].text).toBe(`call ${call}`)
  }
  const { all, ofSession } = await meter.read(client.sessionId)
  const elapsed = Date.now() - began
  console.log(
    `${name}: ${CALLS} calls on a session live on three nodes, in ${elapsed} ms: ${ofSession} commands for the session ` +
      `(looks whether it is still there), ${all - ofSession} others (heartbeats of three nodes)`,
  )
  expect(ofSession).toBeLessThanOrEqual(3 * (Math.floor(elapsed / CHECK_INTERVAL) + 1))
  // A heartbeat a second and node, and now and then a look whether subscriptions still work.
  expect(all - ofSession).toBeLessThanOrEqual(3 * 2 * (elapsed / 1_000 + 2))
}

// An answer that is slow because the machine is would become a stream, and that costs.
const PATIENT = { upgradeAfter: 10_000 }

describeWith('a call on a live session, with Redis', await redisProgram(), () => {
  test('costs no command', { timeout: 60_000 }, async () => {
    const server = await startRedis()
    const admin = new Redis(server.url)
    const monitor = await admin.monitor()
    onTestFinished(() => {
      admin.disconnect()
      monitor.disconnect()
    })
    let commands: string[][] = []
    let mark = ''
    let marked = () => {}
    monitor.on('monitor', (_time: string, args: string[], source: string) => {
      // What a script does is part of the command that runs it.
      if (source === 'lua') return
      if (args[0]?.toLowerCase() === 'echo') {
        if (args[1] === mark) marked()
      } else commands.push(args)
    })
    /** Resolves when all commands before have been seen. */
    const seen = async () => {
      mark = `mark ${Math.random()}`
      const arrived = new Promise<void>((resolve) => {
        marked = resolve
      })
      await admin.echo(mark)
      await within(arrived, 'the mark in the monitor')
    }
    await expectFreeCalls('Redis', await cluster({ sdk: 'v1', backend: server.url, options: PATIENT }), {
      async reset() {
        await seen()
        commands = []
      },
      async read(session) {
        await seen()
        return { all: commands.length, ofSession: commands.filter((args) => args.join(' ').includes(session)).length }
      },
    })
  })
})

describeWith('a call on a live session, with PostgreSQL', await postgresProgram(), () => {
  test('costs no statement', { timeout: 60_000 }, async () => {
    const server = await startPostgres()
    const admin = new pg.Client({ connectionString: server.url })
    await admin.connect()
    onTestFinished(() => admin.end())
    await admin.query("alter system set log_statement = 'all'")
    await admin.query('select pg_reload_conf()')
    const { rows } = await admin.query('show data_directory')
    const log = join(dirname(rows[0].data_directory), 'log')
    // Statements are in the log before they are executed.
    const statements = () =>
      readFileSync(log, 'utf8')
        .split(/^(?=\d{4}-\d\d-\d\d .* LOG:)/m)
        .filter((entry) => /LOG: {2}(execute|statement)/.test(entry))
    let from = 0
    await expectFreeCalls('PostgreSQL', await cluster({ sdk: 'v2', backend: server.url, options: PATIENT }), {
      async reset() {
        from = statements().length
        expect(from).toBeGreaterThan(10)
      },
      async read(session) {
        const since = statements().slice(from)
        return { all: since.length, ofSession: since.filter((entry) => entry.includes(session)).length }
      },
    })
  })
})

/** A session that has left traces everywhere, deleted while it was at work. */
async function liveAndDie(nodes: Cluster): Promise<WireClient> {
  const client = await nodes.open({ capabilities: { elicitation: {} } })
  const id = client.sessionId
  const call = (node: number, name: string, args: object) =>
    client.on(nodes.at(node)).request('tools/call', { name, arguments: args })
  const standalone = await client.on(nodes.at(C)).get()
  for (const node of [A, B, C]) expect((await call(node, 'count', {})).status).toBe(200)
  await client.request('logging/setLevel', { level: 'info' })
  await client.request('resources/subscribe', { uri: 'test://watched-resource' })
  // Too big to travel with its news.
  await call(A, 'log', { level: 'error', text: `${id} ${'x'.repeat(20_000)}` })
  await standalone.next()
  const slow = { name: 'slow', arguments: { steps: 20, ms: 10 }, _meta: { progressToken: 1 } }
  expect((await client.on(nodes.at(B)).request('tools/call', slow)).events).toHaveLength(21)
  const hold = { name: 'hold', arguments: { name: id } }
  const holding = await client.on(nodes.at(B)).open({ id: 'hold', method: 'tools/call', params: hold })
  await nodes.node(B).lines.first((line) => line === `holding ${id}`, 'the running call')

  expect((await client.on(nodes.at(A)).delete()).status).toBe(200)
  await nodes.node(B).lines.first((line) => line === `aborted ${id}`, 'the end of the running call')
  await within(Promise.all([holding.rest(), standalone.rest()]), 'the end of the streams')
  // Whatever was on its way when the session ended has had its chance when the nodes are gone.
  await nodes.each((node) => node.terminate())
  return client
}

/** All keys under the prefix, with what is left of their lives in ms. */
async function redisKeys(clients: Redis[], prefix: string): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  for (const client of clients) {
    for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1_000 })) {
      for (const key of keys as string[]) found.set(key, await client.pttl(key))
    }
  }
  return found
}

async function expectRedisTombstone(clients: Redis[], nodes: Cluster): Promise<void> {
  onTestFinished(() => clients.forEach((client) => void client.disconnect()))
  const { sessionId } = await liveAndDie(nodes)
  const keys = await redisKeys(clients, nodes.namespace)
  expect([...keys.keys()]).toEqual([`${nodes.namespace}:deleted:{${sessionId}}`])
  const [[key, life]] = [...keys] as [[string, number]]
  expect(life).toBeGreaterThan(TOMBSTONE_TTL - 60_000)
  expect(life).toBeLessThanOrEqual(TOMBSTONE_TTL)
  // There is no clock to be set: what is left goes by Redis's own expiry.
  for (const client of clients) await client.pexpire(key, 1).catch(() => 0)
  await until(async () => (await redisKeys(clients, nodes.namespace)).size === 0)
}

describeWith('after DELETE, in Redis', await redisUrl(), (url) => {
  test('only the tombstone is left, and goes', async () => {
    await expectRedisTombstone([new Redis(url)], await cluster({ sdk: 'v1', backend: url }))
  })
})

describeWith('after DELETE, in Redis Cluster', await redisClusterNodes(), (masters) => {
  test('only the tombstone is left, and goes', async () => {
    const backend = `redis-cluster:${masters.map(({ host, port }) => `${host}:${port}`).join(',')}`
    const clients = masters.map(({ host, port }) => new Redis(port, host))
    await expectRedisTombstone(clients, await cluster({ sdk: 'v2', backend }))
  })
})

test('after DELETE, in SQLite, only the tombstone is left, and goes', async () => {
  const nodes = await cluster({ sdk: 'v2', backend: SQLITE })
  const { sessionId } = await liveAndDie(nodes)
  const file = nodes.backend.slice('sqlite:'.length)
  const db = new Database(file, { readonly: true })
  onTestFinished(() => void db.close())
  const tables = db.prepare<[], string>("SELECT name FROM sqlite_master WHERE type = 'table'").pluck().all()
  expect(tables).toContain('sessions')
  const rows = (table: string) => db.prepare(`SELECT * FROM "${table}"`).all()
  const filled = () => tables.filter((table) => table !== 'sqlite_sequence' && rows(table).length > 0)
  // What nodes told each other in the last seconds may still be there.
  expect(filled().filter((table) => table !== 'messages')).toEqual(['tombstones'])
  const [tombstone] = rows('tombstones') as { id: string; expires_at: number }[]
  expect(tombstone?.id).toBe(sessionId)
  expect(tombstone?.expires_at).toBeLessThanOrEqual(Date.now() + TOMBSTONE_TTL)

  const later = sqlite({ file, now: () => Date.now() + TOMBSTONE_TTL })
  onTestFinished(() => later.close?.())
  await until(async () => {
    // Whoever writes sweeps.
    await later.bus?.leave('nobody')
    return filled().length === 0
  })
})

describeWith('after DELETE, in PostgreSQL', await postgresUrl(), (url) => {
  test('only the tombstone is left, and goes', async () => {
    const nodes = await cluster({ sdk: 'v1', backend: url })
    const { sessionId } = await liveAndDie(nodes)
    const admin = new pg.Client({ connectionString: url })
    await admin.connect()
    onTestFinished(() => admin.end())
    const schema = admin.escapeIdentifier(nodes.namespace)
    const { rows: tables } = await admin.query<{ name: string }>(
      `select table_name as name from information_schema.tables where table_schema = $1 and table_name <> 'migrations'`,
      [nodes.namespace],
    )
    expect(tables.map(({ name }) => name)).toContain('sessions')
    const rows = async (name: string) =>
      (await admin.query(`select * from ${schema}.${admin.escapeIdentifier(name)}`)).rows
    const filled = async () => {
      const names: string[] = []
      for (const { name } of tables) if ((await rows(name)).length > 0) names.push(name)
      return names
    }
    // A message stays for some seconds, whoever it was for; the log of messages always has its one row.
    expect((await filled()).filter((name) => name !== 'messages' && name !== 'message_log')).toEqual(['tombstones'])
    const [tombstone] = await rows('tombstones')
    expect(tombstone.id).toBe(sessionId)
    expect(tombstone.expires_at.getTime()).toBeLessThanOrEqual(Date.now() + TOMBSTONE_TTL)

    for (const name of ['tombstones', 'messages']) await admin.query(`update ${schema}.${name} set expires_at = now()`)
    await admin.query(`select ${schema}.sweep(500)`)
    expect((await filled()).filter((name) => name !== 'message_log')).toEqual([])
    await admin.query(`drop schema ${schema} cascade`)
  })
})
