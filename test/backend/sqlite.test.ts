import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Database from 'better-sqlite3'
import { afterAll, describe, expect, it } from 'vitest'
import { TOMBSTONE_TTL } from '../../src/backend/backend.js'
import { type SqliteOptions, sqlite } from '../../src/backend/sqlite.js'
import { certify } from './contract.js'
import { record } from './record.js'

const folder = mkdtempSync(join(tmpdir(), 'mcp-roam-sqlite-'))
afterAll(() => rmSync(folder, { recursive: true }))
let files = 0
const newFile = () => join(folder, `${++files}.db`)

const shared = newFile()
certify('sqlite', async ({ retention }) => {
  const options = { file: shared, ...(retention && { retention }) }
  const [backend, peer] = [sqlite(options), sqlite(options)]
  return { backend, peer, release: async () => void (await Promise.all([backend.close?.(), peer.close?.()])) }
})

describe('the file', () => {
  it('and its folder are for this user only', async () => {
    const file = join(folder, 'new', 'deep', 'roam.db')
    const backend = sqlite({ file })
    await backend.sessions.create(record('s'), 1000)
    const mode = (path: string) => (statSync(path).mode & 0o777).toString(8)
    expect([file, `${file}-wal`, `${file}-shm`].map(mode)).toEqual(['600', '600', '600'])
    expect([join(folder, 'new'), join(folder, 'new', 'deep')].map(mode)).toEqual(['700', '700'])
    await backend.close?.()
  })

  it('is not touched before the first use', async () => {
    const file = newFile()
    const backend = sqlite({ file })
    await backend.close?.()
    expect(existsSync(file)).toBe(false)
  })

  it('keeps sessions, state and events over a restart', async () => {
    const file = newFile()
    const before = sqlite({ file })
    await before.sessions.create(record('s'), 60_000)
    await before.sessions.setState?.('s', 'key', '1')
    await before.events?.open('s', 'stream', { head: '0' })
    await before.events?.append('s', 'stream', { id: 'b', events: ['1'] })
    await before.close?.()
    const after = sqlite({ file })
    expect(await after.sessions.load('s')).toEqual(record('s'))
    expect((await after.sessions.getState?.('s', 'key'))?.value).toBe('1')
    expect(await after.events?.append('s', 'stream', { id: 'b', events: ['1'] })).toBe(1)
    expect(await after.events?.append('s', 'stream', { id: 'c', events: ['2'] })).toBe(2)
    await after.close?.()
  })

  it('must be a path, or sqlite() throws a TypeError that says what to write', () => {
    for (const options of [{ file: ':memory:' }, { file: '' }, { file: 5 }, {}]) {
      const attempt = () => sqlite(options as SqliteOptions)
      expect(attempt).toThrow(TypeError)
      expect(attempt).toThrow("sqlite({ file: 'sessions.db' }), or for sessions in memory use mcp-roam/memory")
    }
  })

  it('is not looked at in intervals below a millisecond', () => {
    expect(() => sqlite({ file: 'x.db', pollInterval: 0 })).toThrow('`pollInterval` must be a number of at least 1')
  })

  it("of somebody else's database is refused and left as it was", async () => {
    const file = newFile()
    const theirs = new Database(file)
    theirs.exec('CREATE TABLE sessions (theirs TEXT)')
    theirs.close()
    const backend = sqlite({ file })
    await expect(backend.sessions.load('s')).rejects.toThrow('not one of mcp-roam')
    await backend.close?.()
    const db = new Database(file)
    expect(db.prepare('SELECT name FROM sqlite_master').pluck().all()).toEqual(['sessions'])
    db.close()
  })

  it('of a newer version is refused', async () => {
    const file = newFile()
    const current = sqlite({ file })
    await current.ping?.()
    await current.close?.()
    const db = new Database(file)
    db.pragma('user_version = 99')
    db.close()
    await expect(sqlite({ file }).ping?.()).rejects.toThrow('newer version')
  })

  it('that cannot be opened is tried again by the next call', async () => {
    const parent = join(folder, 'parent')
    writeFileSync(parent, 'a file where a folder should be')
    const backend = sqlite({ file: join(parent, 'roam.db') })
    await expect(backend.ping?.()).rejects.toThrow()
    await expect(backend.sessions.load('s')).rejects.toThrow()
    rmSync(parent)
    expect(await backend.sessions.create(record('s'), 1000)).toBe(true)
    await backend.close?.()
  })

  it('that another connection of this process opens keeps the locks of the first', async () => {
    const file = newFile()
    const [first, second] = [sqlite({ file }), sqlite({ file })]
    await first.ping?.()
    // In WAL mode every open connection holds a shared lock on the file itself; closing a descriptor of it drops them all.
    const locks = () =>
      readFileSync('/proc/locks', 'utf8')
        .split('\n')
        .filter((line) => line.includes(`:${statSync(file).ino} `) && line.includes(` ${process.pid} `)).length
    const before = locks()
    await second.ping?.()
    expect(before).toBeGreaterThan(0)
    expect(locks()).toBe(before)
    await first.close?.()
    await second.close?.()
  })
})

describe('errors', () => {
  it('of a closed backend reject every method', async () => {
    const backend = sqlite({ file: newFile() })
    await backend.ping?.()
    await backend.close?.()
    await backend.close?.()
    await expect(backend.sessions.load('s')).rejects.toThrow('closed')
    await expect(backend.events?.read('s', 's', 0, 1)).rejects.toThrow('closed')
    await expect(backend.bus?.publish('t', 'm')).rejects.toThrow('closed')
    await expect(backend.ping?.()).rejects.toThrow('closed')
  })

  it('do not quote session data', async () => {
    const file = newFile()
    const backend = sqlite({ file })
    await backend.sessions.create(record('s'), 60_000)
    const db = new Database(file)
    db.exec("UPDATE sessions SET record = 'secret'")
    db.close()
    const error = await backend.sessions.load('s').catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(Error)
    expect(JSON.stringify([String(error), String((error as Error).cause)])).not.toContain('secret')
    await backend.close?.()
  })

  it('say how to install better-sqlite3 when it is missing', async () => {
    const root = join(folder, 'elsewhere')
    mkdirSync(join(root, 'src'), { recursive: true })
    const source = (path: string) => fileURLToPath(new URL(`../../src/${path}`, import.meta.url))
    for (const part of ['backend', 'util']) cpSync(source(part), join(root, 'src', part), { recursive: true })
    writeFileSync(join(root, 'package.json'), '{"type":"module"}')
    writeFileSync(
      join(root, 'main.ts'),
      `import { sqlite } from './src/backend/sqlite.js'
       sqlite({ file: './x.db' }).ping?.().catch((error) => console.log(error.message))`,
    )
    const args = ['--import', import.meta.resolve('tsx'), 'main.ts']
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root })
    expect(stdout).toContain('npm install better-sqlite3')
    expect(existsSync(join(root, 'x.db'))).toBe(false)
  })
})

describe('while another process holds the write lock', () => {
  it('writes wait without blocking the event loop, and reads go on', async () => {
    const file = newFile()
    const backend = sqlite({ file })
    await backend.sessions.create(record('s'), 60_000)
    const other = new Database(file)
    other.exec('BEGIN IMMEDIATE')
    let isDone = false
    const writes = Promise.all([
      backend.sessions.create(record('t'), 60_000),
      backend.events?.open('t', 'stream', { head: '0' }),
    ]).finally(() => {
      isDone = true
    })
    for (let turns = 0; turns < 50; turns++) {
      expect(await backend.sessions.load('s')).toEqual(record('s'))
      await turn()
    }
    expect(isDone).toBe(false)
    other.exec('COMMIT')
    other.close()
    expect(await writes).toEqual([true, true])
    await backend.close?.()
  })
})

describe('time', () => {
  it('frees a deleted id when its tombstone has expired', async () => {
    let time = 1_000_000
    const backend = sqlite({ file: newFile(), now: () => time })
    await backend.sessions.create(record('s'), 60_000)
    await backend.sessions.delete('s')
    await backend.events?.delete('s')
    time += TOMBSTONE_TTL - 1
    expect(await backend.sessions.create(record('s'), 60_000)).toBe(false)
    expect(await backend.events?.open('s', 'stream', { head: '0' })).toBe(false)
    time += 1
    expect(await backend.sessions.create(record('s'), 60_000)).toBe(true)
    expect(await backend.events?.open('s', 'stream', { head: '0' })).toBe(true)
    await backend.close?.()
  })

  it('leaves nothing of what has expired in the file, bit by bit', async () => {
    let time = 1_000_000
    const file = newFile()
    const backend = sqlite({ file, now: () => time })
    const { sessions, events, bus } = backend
    for (let index = 0; index < 300; index++) {
      const id = `s${index}`
      await sessions.create(record(id), 1000)
      await sessions.setState?.(id, 'key', '1')
      await events?.open(id, 'stream', { head: '0' })
      await events?.append(id, 'stream', { id: 'b', events: ['1', '2'] })
      await bus?.publish(id, 'message')
      await bus?.beat(id, 1000)
      await sessions.delete(`unknown ${index}`)
    }
    await events?.open('long', 'stream', { head: '0' })
    await events?.append('long', 'stream', { id: 'b', events: Array(2000).fill('1') })

    const db = new Database(file)
    const tables = ['sessions', 'state', 'tombstones', 'streams', 'events', 'batches', 'messages', 'nodes']
    const rows = () => tables.map((table) => Number(db.prepare(`SELECT count(*) FROM ${table}`).pluck().get()))
    expect(rows()).toEqual([300, 300, 300, 301, 2600, 301, 300, 300])
    time += TOMBSTONE_TTL + 60 * 60_000
    let writes = 0
    while (rows().reduce((sum, count) => sum + count) > 1) {
      // Any write will do; sweeps come after it.
      await bus?.beat('alive', 1000)
      await turn()
      time += 5
      expect(writes++).toBeLessThan(40)
    }
    expect(writes).toBeGreaterThan(2)
    expect(rows()).toEqual([0, 0, 0, 0, 0, 0, 0, 1])
    db.close()
    await backend.close?.()
  })

  it('leaves nothing of a deleted session but its tombstone', async () => {
    const file = newFile()
    const backend = sqlite({ file })
    for (const id of ['gone', 'stays']) {
      await backend.sessions.create(record(id), 60_000)
      await backend.sessions.setState?.(id, 'key', '1')
      await backend.events?.open(id, 'one', { head: '0' })
      await backend.events?.open(id, 'two', { head: '0' })
      await backend.events?.append(id, 'one', { id: 'b', events: Array(1200).fill('1') })
      await backend.events?.append(id, 'two', { id: 'b', events: ['1'] })
    }
    await backend.sessions.delete('gone')
    await backend.events?.delete('gone')
    const db = new Database(file)
    const rows = (table: string) => db.prepare(`SELECT count(*) FROM ${table}`).pluck().get()
    expect(['sessions', 'state', 'tombstones', 'streams', 'events', 'batches'].map(rows)).toEqual([1, 1, 1, 2, 1201, 2])
    db.close()
    expect((await backend.events?.read('stays', 'one', 0, 5000))?.events.length).toBe(1200)
    await backend.close?.()
  })
})
