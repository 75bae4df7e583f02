/**
 * The process of one node: `node.mjs <sdk> <backend url> <port> <ledger file> <options as JSON>`. Prints its port when it
 * serves; `/healthz` says whether to send requests here; SIGTERM drains it. It ends with its stdin.
 */
import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Backend } from '../../src/backend/backend.js'
import { createSessionHandler, type SessionHandlerOptions } from '../../src/index.js'
import type { Sdk } from '../harness/server.js'
import { buildServer, type Run, type Tool } from './tools.js'

/** Options of the handler, as far as they are JSON, and of its `drain`. */
export interface NodeOptions extends Pick<SessionHandlerOptions, 'retryInterval' | 'backendTimeout'> {
  drain?: { notice: number; timeout: number }
}

const [sdk, url = '', port, ledger = '', json = '{}'] = process.argv.slice(2)
const { drain, ...options } = JSON.parse(json) as NodeOptions

const note = (what: Run['what'], tool: Tool, key: string) => {
  appendFileSync(ledger, `${JSON.stringify({ what, tool, key, pid: process.pid } satisfies Run)}\n`)
}
const handler = createSessionHandler(() => buildServer(sdk as Sdk, note), {
  ...options,
  backend: await openBackend(url),
  onerror: (error) => console.error(`${error.message}: ${(error.cause as Error | undefined)?.message ?? ''}`),
})

// whoever is next finds the tables made
await handler.status()

const server = createServer(async (req, res) => {
  if (req.url !== '/healthz') return void handler.node(req, res)
  const { ready } = await handler.status()
  res.writeHead(ready ? 200 : 503).end()
})
server.listen(Number(port), '127.0.0.1', () => console.log((server.address() as AddressInfo).port))

process.once('SIGTERM', async () => {
  await handler.drain(drain)
  server.close()
  await handler.close()
  process.exit()
})
process.stdin.on('end', () => process.exit()).resume()

async function openBackend(from: string): Promise<Backend> {
  switch (from.split(':', 1)[0]) {
    case 'sqlite':
      return (await import('../../src/backend/sqlite.js')).sqlite({ file: from.slice('sqlite:'.length) })
    case 'redis':
      return (await import('../../src/backend/redis.js')).redis({ url: from })
    default:
      return (await import('../../src/backend/postgres.js')).postgres({ url: from })
  }
}
