/**
 * The process of one node: `node.mjs <sdk> <port> <ledger file> <store address as JSON>`. Prints its port when it serves.
 * `/healthz` says whether to send requests here; `/notify?session=…&text=…` has a notification sent to a session; `/status` is
 * for whoever looks into a failure. SIGTERM drains it. It ends with its stdin.
 */
import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Backend } from '../../src/backend/backend.js'
import { createSessionHandler } from '../../src/index.js'
import { buildServer, type Run, type Tool } from '../chaos/tools.js'
import type { Sdk } from '../harness/server.js'
import type { StoreAddress } from './address.js'
import { BLOCK, BLOCKS, DRAIN, RETRY_INTERVAL } from './terms.js'

const [sdk, port, ledger = '', address = ''] = process.argv.slice(2)

const note = (what: Run['what'], tool: Tool, key: string) => {
  appendFileSync(ledger, `${JSON.stringify({ what, tool, key, pid: process.pid } satisfies Run)}\n`)
  // within the tool, before it does anything
  if (what === 'begun' && key.startsWith(BLOCKS)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BLOCK)
}

const handler = createSessionHandler(() => buildServer(sdk as Sdk, note), {
  backend: await openBackend(JSON.parse(address) as StoreAddress),
  retryInterval: RETRY_INTERVAL,
  onerror: (error) => console.error(`${new Date().toISOString()} ${error.message}: ${causes(error)}`),
})

// whoever is next finds the tables made
await handler.status()

const server = createServer(async (req, res) => {
  const { pathname, searchParams } = new URL(req.url ?? '/', 'http://localhost')
  if (pathname === '/healthz') {
    const { ready } = await handler.status()
    res.writeHead(ready ? 200 : 503).end()
  } else if (pathname === '/status') {
    res.end(JSON.stringify(await handler.status()))
  } else if (pathname === '/notify') {
    const params = { level: 'info', data: searchParams.get('text') }
    const told = handler.notify.session(searchParams.get('session') ?? '', { method: 'notifications/message', params })
    told.then(
      (known) => res.end(String(known)),
      (error) => res.writeHead(503).end(String(error)),
    )
  } else await handler.node(req, res)
})
server.listen(Number(port), '127.0.0.1', () => console.log((server.address() as AddressInfo).port))

process.once('SIGTERM', async () => {
  await handler.drain(DRAIN)
  server.close()
  await handler.close()
  process.exit()
})
process.stdin.on('end', () => process.exit()).resume()

function causes({ cause }: Error): string {
  return cause instanceof Error ? `${cause.message}: ${causes(cause)}` : ''
}

async function openBackend(at: StoreAddress): Promise<Backend> {
  switch (at.kind) {
    case 'sqlite':
      return (await import('../../src/backend/sqlite.js')).sqlite({ file: at.file })
    case 'postgres':
      return (await import('../../src/backend/postgres.js')).postgres({ url: at.url, listenUrl: at.listenUrl })
    case 'redis':
      return (await import('../../src/backend/redis.js')).redis({ url: `redis://127.0.0.1:${at.port}` })
    default: {
      const { redis } = await import('../../src/backend/redis.js')
      const { Cluster, Redis } = await import('ioredis')
      const on = (ports: number[]) => ports.map((port) => ({ host: '127.0.0.1', port }))
      if (at.kind === 'redis-cluster') {
        return redis({ client: new Cluster(on(at.ports), { lazyConnect: true, natMap: at.map }) })
      }
      const { sentinels, master: name, map: natMap } = at
      return redis({ client: new Redis({ sentinels: on(sentinels), name, natMap, lazyConnect: true }) })
    }
  }
}
