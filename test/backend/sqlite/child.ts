/** A process of its own on a SQLite file, for processes.test.ts: does the task it is forked with, and tells how it goes. */
import { type SqliteBackend, sqlite } from '../../../src/backend/sqlite.js'
import { record } from '../record.js'

export interface Task {
  name: keyof typeof tasks
  file: string
  /** What this process is called among its siblings. */
  who: string
  /** Session id, stream or topic that the siblings share. */
  shared: string
  count: number
}

const tasks = {
  /** Opens the file and stores a session. */
  async create(backend: SqliteBackend, { who }: Task) {
    return backend.sessions.create(record(who), 60_000)
  },

  /** Wins `count` updates of the shared session, and counts them in its state too. */
  async update(backend: SqliteBackend, { shared, count }: Task) {
    for (let done = 0; done < count; ) {
      const { record } = (await backend.sessions.load(shared))!
      if (await backend.sessions.update({ ...record, revision: record.revision + 1 }, record.revision, 60_000)) done++
    }
    for (let done = 0; done < count; ) {
      const entry = await backend.sessions.getState(shared, 'count')
      const value = String(Number(entry?.value ?? 0) + 1)
      if ((await backend.sessions.setState(shared, 'count', value, entry?.revision ?? 0)) === 'ok') done++
    }
    return count
  },

  /** Appends to the shared session's stream, every batch twice; the positions it was given. */
  async append(backend: SqliteBackend, { who, shared, count }: Task) {
    await backend.events.open(shared, 'stream', { head: '0' })
    const positions: (number | undefined)[] = []
    for (let index = 0; index < count; index++) {
      const batch = { id: `${who}/${index}`, events: [`"${who}"`, `${index}`] }
      positions.push(await backend.events.append(shared, 'stream', batch))
      await backend.events.append(shared, 'stream', batch)
    }
    return positions
  },

  /** Publishes to the shared topic. */
  async publish(backend: SqliteBackend, { who, shared, count }: Task) {
    for (let index = 0; index < count; index++) await backend.bus.publish(shared, `${who}/${index}`)
    return count
  },

  /** Stores sessions and events without end, and tells of each one that was acknowledged. */
  async pour(backend: SqliteBackend, { who, shared }: Task): Promise<never> {
    await backend.events.open(shared, 'stream', { head: '0' })
    for (let index = 1; ; index++) {
      await backend.sessions.create(record(`${who}/${index}`), 60_000)
      await backend.events.append(shared, 'stream', { id: `${index}`, events: [`${index}`] })
      process.send?.({ acknowledged: index })
    }
  },

  /** Is a node that has a minute to live unless it says more, and says no more. */
  async live(backend: SqliteBackend, { who }: Task): Promise<never> {
    await backend.bus.beat(who, 60_000)
    process.send?.('alive')
    return new Promise(() => {})
  },

  /** Follows the shared topic, and lets go of the parent: nothing of the backend should keep the process alive. */
  async idle(backend: SqliteBackend, { shared }: Task) {
    await backend.bus.subscribe(shared, () => {})
    await backend.sessions.create(record(shared), 60_000)
    process.disconnect()
  },
}

const task: Task = JSON.parse(process.argv[2]!)
process.send?.('ready')
process.once('message', async () => {
  try {
    const backend = sqlite({ file: task.file })
    const result = await tasks[task.name](backend, task)
    if (!process.connected) return
    await backend.close()
    process.send?.({ result }, () => process.disconnect())
  } catch (error) {
    process.send?.({ error: String(error) }, () => process.exit(1))
  }
})
