/** Where the sessions of a node under fuzz live. */
import type { Backend } from '../../src/index.js'

export type StoreAddress =
  | { kind: 'memory' }
  | { kind: 'sqlite'; file: string }
  | { kind: 'redis'; url: string; prefix: string }
  | { kind: 'postgres'; url: string; schema: string }

export async function openBackend(at: StoreAddress): Promise<Backend> {
  // So that the log is not what grows.
  const retention = { ttl: 20_000, maxEvents: 1000 }
  switch (at.kind) {
    case 'memory':
      return (await import('../../src/backend/memory.js')).memory({ retention })
    case 'sqlite':
      return (await import('../../src/backend/sqlite.js')).sqlite({ file: at.file, retention })
    case 'redis':
      return (await import('../../src/backend/redis.js')).redis({ url: at.url, prefix: at.prefix, retention })
    case 'postgres':
      return (await import('../../src/backend/postgres.js')).postgres({ url: at.url, schema: at.schema, retention })
  }
}
