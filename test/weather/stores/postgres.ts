/** One PostgreSQL. The second way to it is that of the connection that listens. */
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { binary } from '../../services/binaries.js'
import type { PrivateServer } from '../../services/children.js'
import { launchPostgres } from '../../services/postgres.js'
import { type Fault, seconds } from '../fault.js'
import type { Store } from '../store.js'

export interface OnePostgres extends Store {
  server: PrivateServer
}

/** Ours, beside those of the nodes. */
const OWN = 'weather'

export async function startPostgres(): Promise<OnePostgres> {
  const server = await launchPostgres(await binary('postgres'))
  const port = Number(new URL(server.url).port)
  const through = (way: number) => server.url.replace(`:${port}/`, `:${way}/`)
  return {
    server,
    ports: [port, port],
    address: ([way = 0, listen = 0]) => ({ kind: 'postgres', url: through(way), listenUrl: through(listen) }),
    stop: () => server.stop(),
  }
}

async function connection({ server }: OnePostgres): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: server.url, application_name: OWN })
  client.on('error', () => {})
  await client.connect()
  return client
}

/** Asks for one thing. */
async function ask(store: OnePostgres, text: string): Promise<Record<string, unknown>[]> {
  const client = await connection(store)
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end().catch(() => {})
  }
}

/** Until it takes connections again, after a crash. */
async function untilBack(store: OnePostgres): Promise<void> {
  while (
    !(await ask(store, 'select 1').then(
      () => true,
      () => false,
    ))
  ) {
    await delay(20)
  }
}

const OTHERS = `datname = current_database() and application_name <> '${OWN}' and pid <> pg_backend_pid()`

export const POSTGRES_FAULTS: readonly Fault<OnePostgres>[] = [
  {
    name: 'store frozen 8 s',
    async strike({ store: { server } }) {
      server.pause()
      await seconds(8)
      server.resume()
    },
  },
  { name: 'store restarted', strike: ({ store: { server } }) => server.restart() },
  {
    name: 'store killed and started again',
    async strike({ store: { server } }) {
      await server.kill()
      await seconds(3)
      await server.restart()
    },
  },
  {
    name: 'store crashed (kill -9 of a backend)',
    async strike({ store }) {
      const [backend] = await ask(store, `select pid from pg_stat_activity where ${OTHERS} limit 1`)
      process.kill(Number(backend?.pid), 'SIGKILL')
      // it hears of that at once, and is not to be had before it has recovered
      await delay(100)
      await untilBack(store)
    },
  },
  {
    name: 'out of connections 6 s',
    async strike({ store }) {
      const hogs: pg.Client[] = []
      const eat = async () => {
        for (;;) hogs.push(await connection(store))
      }
      try {
        const first = await connection(store)
        hogs.push(first)
        await eat().catch(() => {})
        const end = performance.now() + 6000
        while (performance.now() < end) {
          // the nodes' own, too: whoever is first gets what becomes free, and these are many
          await first.query(`select pg_terminate_backend(pid) from pg_stat_activity where ${OTHERS}`)
          await Promise.allSettled(Array.from({ length: 10 }, eat))
          await delay(50)
        }
      } finally {
        await Promise.all(hogs.map((hog) => hog.end().catch(() => {})))
      }
    },
  },
  {
    name: 'tables locked 6 s',
    async strike({ store }) {
      const client = await connection(store)
      const { rows } = await client.query(`select format('%I.%I', schemaname, tablename) as name
        from pg_tables where schemaname = 'mcp_roam'`)
      await client.query('begin')
      await client.query(`lock table ${rows.map(({ name }) => name).join(', ')} in access exclusive mode`)
      await seconds(6)
      await client.query('rollback')
      await client.end()
    },
  },
  {
    name: 'listening connections terminated',
    async strike({ store }) {
      await ask(
        store,
        `select pg_terminate_backend(pid) from pg_stat_activity where ${OTHERS} and (query ilike 'listen %' or query = 'select 1')`,
      )
    },
  },
  {
    name: 'listening connections swallowed 20 s',
    async strike({ nodes }) {
      const links = nodes.all.flatMap(({ links }) => links.slice(1))
      for (const link of links) link.swallow()
      await seconds(20)
      for (const link of links) link.mend()
    },
  },
]
