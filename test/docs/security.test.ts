/** docs/security.md: what it has operators run is run here as it stands, and mcp-roam works with what that grants, and no more. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { transformSync } from 'esbuild'
import { Cluster, Redis } from 'ioredis'
import pg from 'pg'
import { createClient, createCluster } from 'redis'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { CompleteBackend } from '../../src/backend/backend.js'
import { postgres } from '../../src/backend/postgres.js'
import { type RedisOptions, redis } from '../../src/backend/redis.js'
import { certify, pairs } from '../backend/contract.js'
import { record } from '../backend/record.js'
import { connectClient } from '../harness/client.js'
import { startServer } from '../harness/server.js'
import { discard, freePorts, scratch } from '../services/children.js'
import {
  describeWith,
  type PrivateServer,
  postgresProgram,
  redisProgram,
  startPostgres,
  startRedis,
  startRedisCluster,
} from '../services/use.js'
import { type Block, inLanguage, ROOT } from './blocks.js'

const PAGE = 'docs/security.md'
const [oneServer = '', cluster = ''] = inLanguage('redis').map(({ code }) => code.trim())
const [roles = '', grants = ''] = inLanguage('sql').map(({ code }) => code)
const programs = inLanguage('ts').filter(({ file }) => file === PAGE)
const programWith = (text: string): Block => {
  const found = programs.filter(({ code }) => code.includes(text))
  expect(found).toHaveLength(1)
  return found[0] as Block
}

it('the page has each of the blocks that are run here, and no others', () => {
  expect(inLanguage('redis')).toHaveLength(2)
  expect(inLanguage('sql')).toHaveLength(2)
  expect(programs).toHaveLength(5)
})

/** What a block of TypeScript exports, run on what was built, with these variables. */
async function run({ code }: Block, env: Record<string, string>): Promise<{ backend: CompleteBackend }> {
  const cache = join(ROOT, 'node_modules/.cache')
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, 'mcp-roam-security-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const local = code.replace(/'mcp-roam\/(\w+)'/, (_, name) => JSON.stringify(join(ROOT, `dist/backend/${name}.js`)))
  const file = join(folder, 'block.mjs')
  writeFileSync(file, transformSync(local, { loader: 'ts', format: 'esm', target: 'node20' }).code)
  Object.assign(process.env, env)
  try {
    const made = (await import(file)) as { backend: CompleteBackend }
    if (made.backend) onTestFinished(() => made.backend.close())
    return made
  } finally {
    for (const name of Object.keys(env)) delete process.env[name]
  }
}

/** A session, from its beginning to its end, over a restart, by way of a real node and client. */
async function serves(backend: string): Promise<void> {
  const server = await startServer({ sdk: 'v2', backend })
  onTestFinished(() => server.kill())
  const client = await connectClient('v2', server.url)
  onTestFinished(() => client.close())
  expect(await client.call('count')).toBe('1')
  await server.restart()
  expect(await client.call('count')).toBe('2')
  await client.terminate()
}

const USER = 'mcp-roam'
const PASSWORD = />(\S+)/.exec(oneServer)?.[1] ?? ''

/** Commands of an `ACL SETUSER`. */
const granted = (command: string) => [...command.matchAll(/ \+(\S+)/g)].map(([, name = '']) => name)
const calledOf = (info: string) => [...info.matchAll(/^cmdstat_([^:]+):/gm)].map(([, name = '']) => name)

describeWith('the user in Redis', await redisProgram(), () => {
  let server: PrivateServer
  let admin: Redis
  const url = () => server.url.replace('//', `//${USER}:${PASSWORD}@`)
  beforeAll(async () => {
    server = await startRedis()
    admin = new Redis(server.url)
    const [name = '', ...args] = oneServer.split(' ')
    expect(await admin.call(name, ...args)).toBe('OK')
    // Nobody else may do anything.
    await admin.set('other:secret', '1')
    return async () => {
      admin.disconnect()
      await server.stop()
    }
  })

  const contract = (name: string, options: () => RedisOptions) =>
    certify(
      name,
      pairs((needs) => redis({ ...options(), ...needs })),
    )
  contract('by address', () => ({ url: url() }))
  contract('node-redis', () => ({ client: createClient({ url: url() }) }))

  it('serves a session', () => serves(url()))

  it('sees nothing of another prefix, and has no other power', async () => {
    const user = new Redis(url())
    onTestFinished(() => user.disconnect())
    const denied = [
      ['get', 'other:secret'],
      ['set', 'other:secret', '2'],
      ['get', 'mcp-roam-2:session'],
      ['eval', "return redis.call('get', KEYS[1])", '1', 'other:secret'],
      ['eval', "return redis.call('get', 'other:secret')", '0'],
      ['subscribe', 'other:channel'],
      ['publish', 'other:channel', 'x'],
      ['psubscribe', '*'],
      ['flushall'],
      ['config', 'get', '*'],
      ['acl', 'list'],
      ['keys', '*'],
      ['monitor'],
    ] as [string, ...string[]][]
    for (const command of denied) {
      await expect(user.call(...command), command.join(' ')).rejects.toThrow(/NOPERM|no permissions|can't access/i)
    }
    expect(await admin.get('other:secret')).toBe('1')
  })

  it('has no command that is not needed', async () => {
    const waiting = redis({ url: url(), waitForReplicas: 1 })
    onTestFinished(() => waiting.close())
    await expect(waiting.sessions.create(record('waits'), 60_000)).rejects.toThrow(/replicas/)
    // A value as the version before wrote it, without its size.
    const upgraded = redis({ url: url() })
    onTestFinished(() => upgraded.close())
    const { sessions } = upgraded
    await sessions.create(record('older'), 60_000)
    await sessions.setState('older', 'a', '1')
    await admin.hdel(`${USER}:session:{older}`, 'size:a')
    expect(await sessions.setState('older', 'b', '1', undefined, { keys: 2, size: 100 })).toBe('ok')
    const database = new Redis(`${url()}/1`)
    onTestFinished(() => database.disconnect())
    await database.ping()
    const called = calledOf(await admin.info('commandstats'))
    for (const command of granted(oneServer)) expect(called).toContain(command)
  })
})

describeWith('the user in Redis Cluster', await redisProgram(), () => {
  let started: Awaited<ReturnType<typeof startRedisCluster>>
  let admins: Redis[] = []
  beforeAll(async () => {
    started = await startRedisCluster()
    admins = started.nodes.map(({ host, port }) => new Redis(port, host))
    const [name = '', ...args] = cluster.split(' ')
    for (const admin of admins) expect(await admin.call(name, ...args)).toBe('OK')
    return async () => {
      for (const admin of admins) admin.disconnect()
      await started.stop()
    }
  }, 60_000)

  const login = { username: USER, password: PASSWORD }
  certify(
    'ioredis',
    pairs((needs) =>
      redis({ client: new Cluster(started.nodes, { redisOptions: login, lazyConnect: true }), ...needs }),
    ),
  )
  certify(
    'node-redis',
    pairs((needs) => {
      const rootNodes = started.nodes.map(({ host, port }) => ({ socket: { host, port } }))
      return redis({ client: createCluster({ rootNodes, defaults: login }), ...needs })
    }),
  )

  it('sees nothing of another prefix', async () => {
    const user = new Redis({ ...started.nodes[0], ...login })
    onTestFinished(() => user.disconnect())
    for (const command of [
      ['get', 'other'],
      ['ssubscribe', 'other'],
      ['spublish', 'other', 'x'],
      ['cluster', 'reset'],
    ]) {
      await expect(user.call(...(command as [string])), command.join(' ')).rejects.toThrow(/NOPERM|no permissions/i)
    }
  })
})

describeWith('the roles in PostgreSQL', await postgresProgram(), () => {
  let server: PrivateServer
  let admin: pg.Pool
  const as = (role: string) => server.url.replace('//roam@', `//${role}@`)
  const app = () => as('mcp_roam_app')
  beforeAll(async () => {
    server = await startPostgres()
    admin = new pg.Pool({ connectionString: server.url })
    // The server ends before the last of its connections has.
    admin.on('error', () => {})
    await admin.query('create table others (secret text)')
    await admin.query(roles)
    return async () => {
      await admin.end()
      await server.stop()
    }
  }, 30_000)
  const asking = async (role: string, text: string) => {
    const client = new pg.Client({ connectionString: as(role) })
    await client.connect()
    try {
      return await client.query(text)
    } finally {
      await client.end()
    }
  }

  it('the owner makes the schema, without which the other one can do nothing', async () => {
    const early = postgres({ url: app() })
    onTestFinished(() => early.close())
    await expect(early.sessions.load('x')).rejects.toThrow(/permission denied/)
    await run(programWith('OWNER_URL'), { OWNER_URL: as('mcp_roam_owner') })
    await asking('mcp_roam_owner', grants)
    expect(await early.sessions.load('x')).toBeUndefined()
  })

  certify(
    'by address',
    pairs((needs) => postgres({ url: app(), ...needs })),
  )

  it('serves a session', () => serves(app()))

  it('removes what has expired', async () => {
    const backend = postgres({ url: app() })
    onTestFinished(() => backend.close())
    await backend.sessions.create(record('old'), 60_000)
    await backend.events.open('old', 's', { head: '0' })
    await backend.events.append('old', 's', { id: 'b', events: ['1'] })
    await backend.bus.beat('gone', 60_000)
    await backend.bus.publish('topic', 'x')
    await backend.sessions.create(record('deleted'), 60_000)
    await backend.sessions.delete('deleted')
    const tables = ['sessions', 'tombstones', 'streams', 'nodes', 'messages']
    for (const table of tables) {
      const also = table === 'streams' ? ", sweep_at = now() - interval '1 hour'" : ''
      await admin.query(`update mcp_roam.${table} set expires_at = now() - interval '1 hour'${also}`)
    }
    // More than what the contract suite has left.
    await asking('mcp_roam_app', 'select mcp_roam.sweep(100000)')
    for (const table of [...tables, 'events', 'batches']) {
      expect((await admin.query(`select from mcp_roam.${table}`)).rowCount, table).toBe(0)
    }
  })

  it('the one of the nodes reads no other table, and changes nothing of the schema', async () => {
    for (const text of [
      'select * from others',
      'create table mcp_roam.more ()',
      'alter table mcp_roam.sessions add column more text',
      'drop table mcp_roam.events',
      'truncate mcp_roam.sessions',
      'drop schema mcp_roam',
      'create or replace function mcp_roam.later(_ms float8) returns timestamptz language sql as $$ select now() $$',
      'delete from mcp_roam.migrations',
      'update mcp_roam.events set data = data',
      'create schema mine',
      'create role mine',
      'set role mcp_roam_owner',
    ]) {
      await expect(asking('mcp_roam_app', text), text).rejects.toThrow(/permission denied|must be owner/)
    }
    await expect(asking('mcp_roam_owner', 'select * from others')).rejects.toThrow(/permission denied/)
  })
})

/** Whether there is an openssl, which makes the certificates. */
const openssl = (() => {
  try {
    return execFileSync('openssl', ['version'], { encoding: 'utf8' })
  } catch {
    return undefined
  }
})()

describe.skipIf(openssl === undefined)('TLS with a CA of our own', async () => {
  let folder = ''
  const at = (name: string) => join(folder, name)
  beforeAll(() => {
    folder = scratch()
    const make = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
    make('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=our CA')
    make('req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=db')
    writeFileSync(at('names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost')
    const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'names', '-days', '2']
    make('x509', '-req', '-in', 'server.csr', '-out', 'server.pem', ...signed)
    // PostgreSQL runs as a user of its own where the tests run as root, and wants nobody else to read its key.
    chmodSync(folder, 0o755)
    chmodSync(at('server.key'), 0o600)
  })
  afterAll(() => discard(folder))

  /** The program of the page keeps a record, and hears what it says on the bus. */
  async function expectToWork(text: string, env: Record<string, string>, id: string): Promise<void> {
    const { backend } = await run(programWith(text), env)
    expect(await backend.sessions.create(record(id), 60_000)).toBe(true)
    const heard = new Promise(
      (resolve) => void backend.bus.subscribe('topic', resolve).then(() => backend.bus.publish('topic', 'x')),
    )
    expect(await heard).toBe('x')
  }

  describeWith('to Redis', await redisProgram(), () => {
    it('works as the page says, with either library; a certificate of an unknown CA is refused', async () => {
      const [port = 0] = await freePorts(1)
      const files = [
        '--tls-cert-file',
        at('server.pem'),
        '--tls-key-file',
        at('server.key'),
        '--tls-ca-cert-file',
        at('ca.pem'),
      ]
      await startRedis(['--tls-port', String(port), '--tls-auth-clients', 'no', ...files])
      const env = { REDIS_URL: `rediss://127.0.0.1:${port}`, CA_FILE: at('ca.pem') }
      for (const [text, id] of [
        ["from 'ioredis'", 'a'],
        ["from 'redis'", 'b'],
      ] as const) {
        await expectToWork(text, env, id)
      }
      const unknown = redis({ url: env.REDIS_URL })
      onTestFinished(() => unknown.close())
      await expect(unknown.ping()).rejects.toThrow(/self-signed certificate|unable to verify/)
    })
  })

  describeWith('to PostgreSQL', await postgresProgram(), () => {
    it('works as the page says, with either library; a certificate of an unknown CA is refused', {
      timeout: 30_000,
    }, async () => {
      if (process.getuid?.() === 0) execFileSync('chown', ['postgres', at('server.key')])
      const server = await startPostgres({ ssl: 'on', ssl_cert_file: at('server.pem'), ssl_key_file: at('server.key') })
      const admin = new pg.Client({ connectionString: server.url })
      await admin.connect()
      onTestFinished(() => admin.end())
      const env = { POSTGRES_URL: server.url, CA_FILE: at('ca.pem') }
      for (const [text, id] of [
        ['sslrootcert', 'a'],
        ['postgresJs', 'b'],
      ] as const) {
        await expectToWork(text, env, id)
      }
      const others =
        'select ssl, count(*)::int from pg_stat_ssl where pid <> pg_backend_pid() and pid in (select pid from pg_stat_activity where usename is not null) group by ssl'
      expect((await admin.query(others)).rows).toEqual([{ ssl: true, count: expect.any(Number) }])
      const unknown = postgres({ url: `${server.url}?sslmode=verify-full` })
      onTestFinished(() => unknown.close())
      await expect(unknown.ping()).rejects.toThrow(/self-signed certificate|unable to verify/)
    })
  })
})
