import { execFile } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Database from 'better-sqlite3'
import { describe, expect, it, onTestFinished } from 'vitest'
import { bounded } from '../../../src/backend/bounded.js'
import { sqlite } from '../../../src/backend/sqlite.js'
import { record } from '../record.js'
import { folder, newFile } from './files.js'

it('the file, those beside it and the folders made for it are for this user only', async () => {
  const file = join(folder, 'new', 'deep', 'roam.db')
  const backend = sqlite({ file })
  await backend.sessions.create(record('s'), 1000)
  const mode = (path: string) => (statSync(path).mode & 0o777).toString(8)
  expect([file, `${file}-wal`, `${file}-shm`].map(mode)).toEqual(['600', '600', '600'])
  expect([join(folder, 'new'), join(folder, 'new', 'deep')].map(mode)).toEqual(['700', '700'])
  await backend.close()
})

it('no file is made before the backend is used', async () => {
  const file = newFile()
  const backend = sqlite({ file })
  await backend.close()
  expect(existsSync(file)).toBe(false)
})

it('sessions, state and events are there after a restart', async () => {
  const file = newFile()
  const before = sqlite({ file })
  await before.sessions.create(record('s'), 60_000)
  await before.sessions.setState('s', 'key', '1')
  await before.events.open('s', 'stream', { head: '0' })
  await before.events.append('s', 'stream', { id: 'b', events: ['1'] })
  await before.close()
  const after = sqlite({ file })
  expect((await after.sessions.load('s'))?.record).toEqual(record('s'))
  expect((await after.sessions.getState('s', 'key'))?.value).toBe('1')
  expect(await after.events.append('s', 'stream', { id: 'b', events: ['1'] })).toBe(1)
  expect(await after.events.append('s', 'stream', { id: 'c', events: ['2'] })).toBe(2)
  await after.close()
})

it("somebody else's database is refused and left as it was", async () => {
  const file = newFile()
  const theirs = new Database(file)
  theirs.exec('CREATE TABLE sessions (theirs TEXT)')
  chmodSync(file, 0o600)
  theirs.close()
  const backend = sqlite({ file })
  await expect(backend.sessions.load('s')).rejects.toThrow('not one of mcp-roam')
  await backend.close()
  const db = new Database(file)
  expect(db.prepare('SELECT name FROM sqlite_master').pluck().all()).toEqual(['sessions'])
  db.close()
})

it('a file of a newer version is refused', async () => {
  const file = newFile()
  const current = sqlite({ file })
  await current.ping()
  await current.close()
  const db = new Database(file)
  db.pragma('user_version = 99')
  db.close()
  await expect(sqlite({ file }).ping()).rejects.toThrow('newer version')
})

it('a file that could not be opened is tried again by the next call', async () => {
  const parent = join(folder, 'parent')
  writeFileSync(parent, 'a file where a folder should be')
  const backend = sqlite({ file: join(parent, 'roam.db') })
  await expect(backend.ping()).rejects.toThrow()
  await expect(backend.sessions.load('s')).rejects.toThrow()
  rmSync(parent)
  expect(await backend.sessions.create(record('s'), 1000)).toBe(true)
  await backend.close()
})

it('opening the file a second time in a process keeps the locks of the first', async () => {
  const file = newFile()
  const [first, second] = [sqlite({ file }), sqlite({ file })]
  await first.ping()
  // In WAL mode every open connection holds a shared lock on the file itself; closing a descriptor of it drops them all.
  const locks = () =>
    readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .filter((line) => line.includes(`:${statSync(file).ino} `) && line.includes(` ${process.pid} `)).length
  const before = locks()
  await second.ping()
  expect(before).toBeGreaterThan(0)
  expect(locks()).toBe(before)
  await first.close()
  await second.close()
})

it('a closed backend rejects every call', async () => {
  const backend = sqlite({ file: newFile() })
  await backend.ping()
  await backend.close()
  await backend.close()
  await expect(backend.sessions.load('s')).rejects.toThrow('closed')
  await expect(backend.events.read('s', 's', 0, 1)).rejects.toThrow('closed')
  await expect(backend.bus.publish('t', 'm')).rejects.toThrow('closed')
  await expect(backend.ping()).rejects.toThrow('closed')
})

it('an error about a damaged record does not quote it', async () => {
  const file = newFile()
  const backend = sqlite({ file })
  await backend.sessions.create(record('s'), 60_000)
  const db = new Database(file)
  db.exec("UPDATE sessions SET record = 'secret'")
  db.close()
  const { sessions } = bounded(backend, 5_000, () => {})
  const error = await sessions.load('s').catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(Error)
  expect(JSON.stringify([String(error), String((error as Error).cause)])).not.toContain('secret')
  await backend.close()
})

it('a missing better-sqlite3 is an error that says how to install it', async () => {
  const root = join(folder, 'elsewhere')
  mkdirSync(join(root, 'src'), { recursive: true })
  const source = (path: string) => fileURLToPath(new URL(`../../../src/${path}`, import.meta.url))
  for (const part of ['backend', 'util', 'wire']) cpSync(source(part), join(root, 'src', part), { recursive: true })
  writeFileSync(join(root, 'package.json'), '{"type":"module"}')
  writeFileSync(
    join(root, 'main.ts'),
    `import { sqlite } from './src/backend/sqlite.js'
     sqlite({ file: './x.db' }).ping().catch((error) => console.log(error.message))`,
  )
  const args = ['--import', import.meta.resolve('tsx'), 'main.ts']
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root })
  expect(stdout).toContain('npm install better-sqlite3')
  expect(existsSync(join(root, 'x.db'))).toBe(false)
})

it('while another process holds the write lock, writes wait without blocking the event loop, and reads go on', async () => {
  const file = newFile()
  const backend = sqlite({ file })
  await backend.sessions.create(record('s'), 60_000)
  const other = new Database(file)
  other.exec('BEGIN IMMEDIATE')
  let isDone = false
  const writes = Promise.all([
    backend.sessions.create(record('t'), 60_000),
    backend.events.open('t', 'stream', { head: '0' }),
  ]).finally(() => {
    isDone = true
  })
  for (let turns = 0; turns < 50; turns++) {
    expect((await backend.sessions.load('s'))?.record).toEqual(record('s'))
    await nextTurn()
  }
  expect(isDone).toBe(false)
  other.exec('COMMIT')
  other.close()
  expect(await writes).toEqual([true, true])
  await backend.close()
})

describe.skipIf(process.platform === 'win32')('a file whose mode lets others in', () => {
  async function opened(path: string, mode: number, prepare = true): Promise<unknown> {
    const file = newFile()
    if (prepare) {
      const first = sqlite({ file })
      await first.ping()
      // the files beside it are there as long as it is in use
      onTestFinished(() => first.close())
    } else writeFileSync(file, '')
    chmodSync(`${file}${path}`, mode)
    const backend = sqlite({ file })
    onTestFinished(() => backend.close())
    const outcome = await backend.ping().catch((error: Error) => error.message.replace(file, 'FILE'))
    expect(statSync(`${file}${path}`).mode & 0o777).toBe(mode)
    return outcome
  }

  it.each([
    ['', 0o666],
    ['', 0o644],
    ['', 0o602],
    ['-wal', 0o644],
    ['-shm', 0o666],
  ])('%s with mode %o is refused, says what to do, and is left as it is', async (path, mode) => {
    const shown = `0${mode.toString(8)}`
    expect(await opened(path, mode)).toMatch(new RegExp(`write FILE${path} \\(mode ${shown}\\).*: chmod 600 it`))
  })

  it('one that was made empty for it is refused, too', async () => {
    expect(await opened('', 0o644, false)).toMatch(/chmod 600/)
  })

  it.each([0o600, 0o660, 0o640])('mode %o is taken: only its user and group are let in', async (mode) => {
    expect(await opened('', mode)).toBeUndefined()
  })

  it('is taken as soon as its mode is right', async () => {
    const file = newFile()
    writeFileSync(file, '', { mode: 0o644 })
    const backend = sqlite({ file })
    onTestFinished(() => backend.close())
    await expect(backend.ping()).rejects.toThrow('chmod 600')
    chmodSync(file, 0o600)
    await backend.ping()
  })
})
