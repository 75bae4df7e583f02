import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MIGRATIONS } from '../../../src/backend/sqlite/schema.js'
import { sqlite } from '../../../src/backend/sqlite.js'
import { record } from '../record.js'
import type { Task } from './child.js'

let folder: string
let file: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mcp-roam-sqlite-'))
  file = join(folder, 'roam.db')
})
afterEach(() => rmSync(folder, { recursive: true }))

const childFile = fileURLToPath(new URL('./child.ts', import.meta.url))

/** Forks processes, lets them go all at once when each is ready, and resolves with what they report. */
async function atOnce(name: Task['name'], processes: number, shared = 'shared', count = 0): Promise<unknown[]> {
  const children = await Promise.all(
    Array.from({ length: processes }, (_, index) => ready({ name, file, who: `p${index}`, shared, count })),
  )
  return Promise.all(
    children.map(async (child) => {
      const message = once(child, 'message')
      child.send('go')
      const [report] = await message
      if (child.connected) await once(child, 'exit')
      if ('error' in report) throw new Error(report.error)
      return report.result
    }),
  )
}

async function ready(task: Task): Promise<ChildProcess> {
  const child = fork(childFile, [JSON.stringify(task)], { execArgv: ['--import', 'tsx'] })
  await once(child, 'message')
  return child
}

it('processes that open a new file at once all find it ready', async () => {
  expect(await atOnce('create', 6)).toEqual(Array(6).fill(true))
  const backend = sqlite({ file })
  for (let index = 0; index < 6; index++)
    expect((await backend.sessions.load(`p${index}`))?.record).toEqual(record(`p${index}`))
  await backend.close()
  const db = new Database(file)
  expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
  expect(db.pragma('user_version', { simple: true })).toBe(MIGRATIONS.length)
  db.close()
})

it('no update is lost when processes write one session at once', async () => {
  const backend = sqlite({ file })
  await backend.sessions.create(record('shared'), 60_000)
  await atOnce('update', 3, 'shared', 50)
  expect((await backend.sessions.load('shared'))?.record.revision).toBe(151)
  expect((await backend.sessions.getState('shared', 'count'))?.value).toBe('150')
  await backend.close()
})

it('processes that append to one stream at once get one order without a hole, and each batch once', async () => {
  const reports = await atOnce('append', 3, 'shared', 100)
  const backend = sqlite({ file })
  const slice = (await backend.events.read('shared', 'stream', 0, 1000))!
  expect(slice.events.map((event) => event.position)).toEqual(Array.from({ length: 600 }, (_, index) => index + 1))
  for (const [process, positions] of reports.entries()) {
    const expected = slice.events.filter((event) => event.data === `"p${process}"`).map((event) => event.position + 1)
    expect(positions).toEqual(expected)
    expect(expected.map((position) => slice.events[position - 1]?.data)).toEqual(expected.map((_, index) => `${index}`))
  }
  await backend.close()
})

it('messages of other processes arrive, each once', async () => {
  const backend = sqlite({ file })
  const received: string[] = []
  const all = new Promise<void>((resolve) => {
    void backend.bus.subscribe('topic', (message) => {
      if (received.push(message) === 300) resolve()
    })
  })
  await atOnce('publish', 3, 'topic', 100)
  await all
  expect(new Set(received).size).toBe(300)
  await backend.close()
})

it('SIGKILL of a writing process loses nothing that was acknowledged', async () => {
  const child = await ready({ name: 'pour', file, who: 'victim', shared: 'session', count: 0 })
  let acknowledged = 0
  child.on('message', (message: { acknowledged: number }) => {
    acknowledged = message.acknowledged
    if (acknowledged === 150) child.kill('SIGKILL')
  })
  const exit = once(child, 'exit')
  child.send('go')
  await exit
  expect(acknowledged).toBeGreaterThanOrEqual(150)

  const backend = sqlite({ file })
  for (let index = 1; index <= acknowledged; index++) {
    expect((await backend.sessions.load(`victim/${index}`))?.record).toEqual(record(`victim/${index}`))
  }
  const slice = (await backend.events.read('session', 'stream', 0, 10_000))!
  expect(slice.last).toBeGreaterThanOrEqual(acknowledged)
  expect(slice.events.map((event) => event.data)).toEqual(slice.events.map((event) => `${event.position}`))
  expect(await backend.events.append('session', 'stream', { id: 'after', events: ['x'] })).toBe(slice.last + 1)
  await backend.close()
})

/** Makes the file what version 1 would have left: nodes are not known by their processes. */
function downgrade(): void {
  const db = new Database(file)
  db.exec(`
    DROP TRIGGER stream_weighed; DROP TRIGGER stream_removed; DROP TABLE session_weights;
    DROP INDEX streams_ended; DROP INDEX streams_unfinished; DROP INDEX state_sizes`)
  for (const [table, column] of [
    ['nodes', 'place'],
    ['nodes', 'pid'],
    ['streams', 'sent'],
    ['streams', 'batch'],
    ['streams', 'head_size'],
    ['streams', 'weight'],
    ['streams', 'appended'],
    ['streams', 'emptied'],
    ['state', 'size'],
    ['batches', 'at'],
    ['sessions', 'holders'],
  ]) {
    db.exec(`ALTER TABLE ${table} DROP COLUMN ${column}`)
  }
  db.pragma('user_version = 1')
  db.close()
}

describe('nodes of one machine', () => {
  /** A process that is a node, and this one, which sees it. */
  async function pair(who: string) {
    const child = await ready({ name: 'live', file, who, shared: '', count: 0 })
    const alive = once(child, 'message')
    child.send('go')
    await alive
    const backend = sqlite({ file })
    expect(await backend.bus.nodes()).toEqual([who])
    const kill = async () => {
      const exit = once(child, 'exit')
      child.kill('SIGKILL')
      await exit
    }
    return { backend, kill }
  }

  it('a node whose process was killed is gone at once, whatever its heartbeat says', async () => {
    const { backend, kill } = await pair('killed')
    await backend.bus.beat('ours', 60_000)
    await kill()
    expect(await backend.bus.nodes()).toEqual(['ours'])
    await backend.close()
  })

  it('a node of this process is there until it leaves', async () => {
    const backend = sqlite({ file })
    await backend.bus.beat('first', 60_000)
    await backend.bus.beat('second', 60_000)
    await backend.bus.leave('first')
    expect(await backend.bus.nodes()).toEqual(['second'])
    await backend.close()
  })

  it.each([
    ['a node of another machine or container', "UPDATE nodes SET place = 'elsewhere'"],
    ['a node that may run anywhere', 'UPDATE nodes SET place = NULL, pid = NULL'],
  ])('%s is judged by its heartbeat alone', async (_, change) => {
    const { backend, kill } = await pair('remote')
    const db = new Database(file)
    db.exec(change)
    db.close()
    await kill()
    expect(await backend.bus.nodes()).toEqual(['remote'])
    await backend.close()
    const later = sqlite({ file, now: () => Date.now() + 60_000 })
    expect(await later.bus.nodes()).toEqual([])
    await later.close()
  })
})

it('processes that open a file of version 1 at once find it upgraded, and one that was there goes on', async () => {
  const before = sqlite({ file })
  await before.sessions.create(record('kept'), 60_000)
  await before.close()
  downgrade()
  const old = new Database(file)
  const beat = old.prepare('INSERT OR REPLACE INTO nodes (id, expires_at) VALUES (?, ?)')
  beat.run('old', Date.now() + 60_000)

  expect(await atOnce('create', 4)).toEqual(Array(4).fill(true))

  beat.run('old', Date.now() + 60_000)
  expect(old.pragma('user_version', { simple: true })).toBe(MIGRATIONS.length)
  old.close()
  const backend = sqlite({ file })
  expect((await backend.sessions.load('kept'))?.record).toEqual(record('kept'))
  expect(await backend.bus.nodes()).toEqual(['old'])
  await backend.close()
})

it('a subscription does not keep a process alive', async () => {
  const child = await ready({ name: 'idle', file, who: 'idler', shared: 'topic', count: 0 })
  const exit = once(child, 'exit')
  child.send('go')
  expect(await exit).toEqual([0, null])
})
