/**
 * What idle sessions cost a Redis server, of docs/costs.md: `npx tsx bench/idle.ts redis://127.0.0.1:6379`, after a build, on a
 * server that does nothing else. It adds sessions under a prefix of its own, and deletes them.
 */
import { Redis } from 'ioredis'
import { redis } from 'mcp-roam/redis'

const SESSIONS = 20_000
/** As many as a node looks at with one command. */
const BATCH = 256
const ROUNDS = 5
const TTL = 10 * 60_000
const STREAM = 'standalone'
const PREFIX = 'bench-idle'

const [url = 'redis://127.0.0.1:6379'] = process.argv.slice(2)
const backend = redis({ url, prefix: PREFIX })
const server = new Redis(url)

const ids = Array.from({ length: SESSIONS }, () => crypto.randomUUID())
const batches = Array.from({ length: Math.ceil(SESSIONS / BATCH) }, (_, i) => ids.slice(i * BATCH, (i + 1) * BATCH))
const names = (batch: readonly string[]) => batch.map((session) => ({ session, stream: STREAM }))

async function add(id: string): Promise<void> {
  const journal = { initialize: { protocolVersion: '2025-11-25' }, initialized: true, subscriptions: [] }
  const record = { version: 1, id, revision: 2, createdAt: 0, principal: null, protocolVersion: '2025-11-25', journal }
  await backend.sessions.create({ ...record, version: 1 }, TTL, 'a-node-id:1')
  await backend.events.open(id, STREAM, { head: '{}' })
  await backend.events.attach(id, STREAM, 'a-node-id:2')
}

/** CPU time of the server's main thread, in µs. */
async function used(): Promise<number> {
  const info = await server.info('cpu')
  const part = (name: string) => Number(new RegExp(`${name}:([\\d.]+)`).exec(info)?.[1])
  return 1e6 * (part('used_cpu_user_main_thread') + part('used_cpu_sys_main_thread'))
}

async function measure(what: string, ask: (batch: readonly string[]) => Promise<unknown>): Promise<void> {
  await ask(['none'])
  const before = await used()
  for (let round = 0; round < ROUNDS; round++) for (const batch of batches) await ask(batch)
  const each = ((await used()) - before) / (ROUNDS * SESSIONS)
  console.log(`${what}: ${each.toFixed(1)} µs of the server for each`)
}

for (const batch of batches) await Promise.all(batch.map(add))
await measure('sessions compared, in batches', (batch) => backend.sessions.look(batch))
await measure('streams looked at, in batches', (batch) => backend.events.look(names(batch)))
// As in a cluster.
await measure('sessions compared, each by itself', (batch) =>
  Promise.all(batch.map((id) => server.hmget(`${PREFIX}:session:{${id}}`, 'revision', 'holders'))),
)
await measure('streams looked at, each by itself', (batch) =>
  Promise.all(names(batch).map((name) => backend.events.look([name]))),
)
for (const batch of batches) {
  await Promise.all(batch.map((id) => Promise.all([backend.sessions.delete(id), backend.events.delete(id)])))
}
await backend.close()
server.disconnect()
