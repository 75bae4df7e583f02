import { describe, expect, it } from 'vitest'
import { describeWith, postgresUrl, redisUrl, startRedis } from '../services/use.js'
import { runs } from './runs.js'
import { script } from './served.js'

const test = runs()
const command = ['--', ...script('tools')]
const served = (backend: string, port = '0') => test.run(['serve', '--port', port, '--backend', backend, ...command])

function suite(url: string, name: RegExp): void {
  it('keeps sessions over SIGKILL and a restart, and shows no credential', async () => {
    const first = served(url)
    const at = await first.ready()
    expect(first.log).toMatch(name)
    const client = await test.connect(at)
    await client.call('pid')
    await first.kill()
    const second = served(url, new URL(at).port)
    await second.ready()
    expect(await client.call('release')).toBe('released')
    expect(client.wire.count('initialize')).toBe(1)
    expect(first.log + second.log).not.toMatch(/\/\/\S*@/)
  })

  it('is shared by workers', async () => {
    const cli = test.run(['serve', '--port', '0', '--workers', '2', '--backend', url, ...command])
    const client = await test.connect(await cli.ready())
    for (let i = 0; i < 10; i++) await client.call('release')
    expect(client.wire.sessionIds).toHaveLength(1)
  })
}

describeWith('serve on Redis', await redisUrl(), (url) => {
  suite(url, /backend redis:\/\/127\.0\.0\.1:\d+$/)

  it('also under the name of Valkey, and taken from the environment', async () => {
    const env = { MCP_ROAM_BACKEND: url.replace(/^redis/, 'valkey') }
    const cli = test.run(['serve', '--port', '0', ...command], { env })
    await cli.ready()
    expect(cli.log).toContain(', backend redis://')
  })

  it('is 503 while Redis is away, and goes on by itself', { timeout: 60_000 }, async () => {
    const server = await startRedis()
    const cli = served(server.url)
    const health = new URL('/healthz', await cli.ready()).href
    const status = async () => (await fetch(health)).status
    expect(await status()).toBe(200)
    await server.kill()
    await expect.poll(status, { timeout: 10_000 }).toBe(503)
    await server.restart()
    await expect.poll(status, { timeout: 15_000 }).toBe(200)
  })
})

describeWith('serve on PostgreSQL', await postgresUrl(), (url) => {
  suite(url, /backend postgres(ql)?:\/\/[^@]+:\d+\/\S+$/)

  it('says which database is missing', async () => {
    const missing = new URL(url)
    missing.pathname = '/no_such_database'
    const { code, says } = await test.ends(['serve', '--port', '0', '--backend', missing.href, ...command])
    expect(code).toBe(1)
    expect(says).toMatch(/^mcp-roam: cannot use PostgreSQL at \S+:\d+: there is no such database$/)
  })
})

describe('what cannot be done is said in one line without credentials', () => {
  it.each([
    ['redis://me:secret@127.0.0.1:1', 'Redis at 127.0.0.1:1: connection refused'],
    ['rediss://me:secret@no-such-host.invalid', 'Redis at no-such-host.invalid:6379: there is no such host'],
    ['postgres://me:secret@127.0.0.1:1/app', 'PostgreSQL at 127.0.0.1:1: connection refused'],
    [
      'postgresql://me:secret@no-such-host.invalid/app',
      'PostgreSQL at no-such-host.invalid:5432: there is no such host',
    ],
  ])('%s', async (backend, says) => {
    expect(await test.ends(['serve', '--port', '0', '--backend', backend, ...command])).toEqual({
      code: 1,
      stdout: '',
      says: `mcp-roam: cannot use ${says}`,
    })
  })

  it.each([
    ['redis://me:secret@127.0.0.1', 'Redis needs a package that is not installed: npm install ioredis'],
    ['postgres://me:secret@127.0.0.1/app', 'PostgreSQL needs a package that is not installed: npm install pg'],
  ])('no client library for %s', async (backend, says) => {
    const node = ['--import', script('no-clients')[1] as string]
    expect(await test.ends(['serve', '--port', '0', '--backend', backend, ...command], { node })).toEqual({
      code: 1,
      stdout: '',
      says: `mcp-roam: ${says}`,
    })
  })

  it('an option that was mistyped', async () => {
    const { code, says } = await test.ends(['serve', '--backed=redis://me:secret@db', ...command])
    expect(code).toBe(2)
    expect(says).not.toContain('secret')
  })
})
