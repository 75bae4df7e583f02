import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, it } from 'vitest'
import type { Backend } from '../../src/backend/backend.js'
import { sqlite } from '../../src/backend/sqlite.js'
import { record } from '../backend/record.js'
import { later } from '../harness/later.js'
import { until, within } from '../harness/within.js'
import { describeWith, postgresUrl, redisUrl } from '../services/use.js'
import { runs } from './runs.js'
import { EVERYTHING, MAIN } from './served.js'

const test = runs()
const file = () => join(test.folder, 'sessions.db')
const sessions = (...args: string[]) => test.ends(['sessions', ...args])

function suite(title: string, backendOf: () => string): void {
  it(`${title}: lists, shows and ends the sessions of a server that is running`, { timeout: 60_000 }, async () => {
    const backend = ['--backend', backendOf()]
    const cli = test.run(['serve', '--port', '0', ...backend, '--', ...EVERYTHING])
    const client = await test.connect(await cli.ready())
    const id = client.sessionId() as string
    const [uri = ''] = await client.resources()
    await client.subscribe(uri)

    const list = await sessions('list', ...backend)
    expect(list.code).toBe(0)
    const [header = '', ...rows] = list.stdout.trimEnd().split('\n')
    expect(header).toMatch(/^ID {36}CLIENT +PROTOCOL +CREATED +SUBSCRIPTIONS$/)
    const row = rows.find((line) => line.startsWith(id)) ?? ''
    expect(row.length).toBe(header.length)
    expect(row).toMatch(/^\S+ {2}client-v1 \S+ +2025-11-25 {2}\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +1$/)

    const json = await sessions('list', '--json', ...backend)
    const objects = json.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(objects).toContainEqual(expect.objectContaining({ id, protocolVersion: '2025-11-25', subscriptions: [uri] }))

    const shown = await sessions('show', id, ...backend)
    expect(shown).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`subscriptions  1\n               ${uri}\n`),
    })

    const deleted = await sessions('delete', id, ...backend)
    expect(deleted).toEqual({ code: 0, stdout: `deleted ${id}\n`, says: '' })
    await expect(client.call('echo', { message: 'after' })).rejects.toThrow(/404|not found/i)
    expect(await sessions('show', id, ...backend)).toMatchObject({ code: 1, says: `mcp-roam: no such session: ${id}` })
    expect(await sessions('delete', id, ...backend)).toMatchObject({
      code: 1,
      says: `mcp-roam: no such session: ${id}`,
    })
  })
}

suite('SQLite', () => `sqlite:${file()}`)
describeWith('Redis', await redisUrl(), (url) => suite('Redis', () => url))
describeWith('PostgreSQL', await postgresUrl(), (url) => suite('PostgreSQL', () => url))

it('a deleted session ends at once on a node where a call of it is running', async () => {
  const backend = ['--backend', `sqlite:${file()}`]
  const cli = test.run(['serve', '--port', '0', ...backend, '--', ...EVERYTHING])
  const client = await test.connect(await cli.ready())
  const id = client.sessionId() as string
  void later(client.call('trigger-long-running-operation', { duration: 60, steps: 1 }))
  await until(() => client.wire.count('tools/call') === 1)
  await sessions('delete', id, ...backend)
  const health = new URL('/healthz', await cli.ready()).href
  await until(async () => ((await (await fetch(health)).json()) as { liveSessions: number }).liveSessions === 0)
})

describe('of 100,000 sessions', () => {
  async function fill(): Promise<void> {
    const backend: Backend = sqlite({ file: file() })
    await backend.ping?.()
    await backend.close?.()
    const db = new Database(file())
    const insert = db.prepare('INSERT INTO sessions (id, revision, expires_at, record) VALUES (?, 1, ?, ?)')
    const expiry = Date.now() + 3_600_000
    db.transaction(() => {
      for (let i = 0; i < 100_000; i++) insert.run(`s${i}`, expiry, JSON.stringify(record(`s${i}`)))
    })()
    db.close()
  }

  it('lists every one, without having them all in memory', { timeout: 60_000 }, async () => {
    await fill()
    const node = ['--max-old-space-size=64']
    const cli = test.run(['sessions', 'list', '--json', '--backend', `sqlite:${file()}`], { node })
    expect((await within(cli.ended, 'the list', 50_000)).code).toBe(0)
    expect(cli.stdout.split('\n').length).toBe(100_001)
  })

  it('stops without a word when its reader has seen enough', { timeout: 60_000 }, async () => {
    await fill()
    const args = ['--import', 'tsx', MAIN, 'sessions', 'list', '--backend', `sqlite:${file()}`]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text
    })
    const [first] = await within(once(child.stdout.setEncoding('utf8'), 'data'), 'the first lines', 20_000)
    expect(first).toMatch(/^ID /)
    child.stdout.destroy()
    const [code] = await within(once(child, 'exit'), 'the end', 20_000)
    expect({ code, errors }).toEqual({ code: 0, errors: '' })
  })
})

it('what a client said of itself does not reach the terminal as a command', async () => {
  const backend: Backend = sqlite({ file: file() })
  const hostile = record('hostile')
  hostile.journal.initialize = { clientInfo: { name: 'evil\u001b[2J\r\n\u202eclient', version: '1' }, capabilities: {} }
  await backend.sessions.create(hostile, 60_000)
  await backend.close?.()
  for (const words of [['list'], ['show', 'hostile']]) {
    const { stdout } = await sessions(...words, '--backend', `sqlite:${file()}`)
    expect(stdout).toContain('evil')
    for (const command of ['\u001b', '\r', '\u202e']) expect(stdout).not.toContain(command)
  }
})

describe('what cannot be done is said in one line', () => {
  it('a file that is not there, and it is not created', async () => {
    const { code, says } = await sessions('list', '--backend', `sqlite:${file()}`)
    expect({ code, says }).toEqual({ code: 1, says: `mcp-roam: no such file: ${file()}` })
    expect(existsSync(file())).toBe(false)
  })

  it('no --backend, or memory:', async () => {
    expect(await sessions('list')).toMatchObject({
      code: 2,
      says: expect.stringMatching(/--backend <url>.*not specified/),
    })
    expect(await sessions('list', '--backend', 'memory:')).toMatchObject({
      code: 2,
      says: expect.stringMatching(/^mcp-roam: memory: is seen by its own process alone/),
    })
  })

  it.each(['redis', 'postgres'])('no %s there', async (scheme) => {
    const { code, says } = await sessions('list', '--backend', `${scheme}://me:secret@127.0.0.1:1/0`)
    expect(code).toBe(1)
    expect(says).toMatch(/^mcp-roam: cannot use (Redis|PostgreSQL) at 127\.0\.0\.1:1: connection refused$/)
  })
})
