/** Two nodes' own ways to the same data, on each backend that can be had here. */
import { join } from 'node:path'
import { describe } from 'vitest'
import { type MemoryBackend, memory } from '../../src/backend/memory.js'
import { postgres } from '../../src/backend/postgres.js'
import { redis } from '../../src/backend/redis.js'
import { sqlite } from '../../src/backend/sqlite.js'
import type { Backend } from '../../src/index.js'
import { discard, scratch } from '../services/children.js'
import { describeWith, postgresUrl, redisUrl, unique } from '../services/use.js'

export type BackendName = 'memory' | 'SQLite' | 'Redis' | 'PostgreSQL'

/** Where the data is, for those who come to it past the backend. */
export type Where =
  | { name: 'memory'; backend: MemoryBackend }
  | { name: 'SQLite'; file: string }
  | { name: 'Redis'; url: string; prefix: string }
  | { name: 'PostgreSQL'; url: string; schema: string }

export interface Place {
  backends: [Backend, Backend]
  where: Where
  /** Closes both, and removes what has no other owner. */
  close(): Promise<void>
}

function place(where: Where, make: () => Backend, release = () => {}): Place {
  const backends: [Backend, Backend] = [make(), make()]
  return {
    backends,
    where,
    async close() {
      await Promise.all(backends.map((backend) => backend.close?.()))
      release()
    },
  }
}

const [redisAt, postgresAt] = await Promise.all([redisUrl(), postgresUrl()])

/** `describe` for each; the body opens the place when its tests begin. */
export function describeBackends(body: (open: () => Place, name: BackendName) => void): void {
  describe('on memory', () => {
    const shared = memory()
    body(() => place({ name: 'memory', backend: shared }, () => shared), 'memory')
  })
  describe('on SQLite', () => {
    body(() => {
      const folder = scratch()
      const file = join(folder, 'sessions.db')
      return place(
        { name: 'SQLite', file },
        () => sqlite({ file }),
        () => discard(folder),
      )
    }, 'SQLite')
  })
  describeWith('on Redis', redisAt, (url) => {
    const prefix = unique()
    body(() => place({ name: 'Redis', url, prefix }, () => redis({ url, prefix })), 'Redis')
  })
  describeWith('on PostgreSQL', postgresAt, (url) => {
    const schema = unique()
    body(() => place({ name: 'PostgreSQL', url, schema }, () => postgres({ url, schema })), 'PostgreSQL')
  })
}
