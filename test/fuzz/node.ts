/**
 * The process under fuzz: `node.mjs <sdk> <backend address as JSON>`. Prints its port when it serves `/node` and `/fetch`, the two
 * doors of one handler. `/weigh` collects garbage and says how much is left. What no handler caught ends the process, as Node does.
 * It ends with its stdin.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { createSessionHandler, currentSession } from '../../src/index.js'
import type { AuthInfo } from '../../src/wire/sdk.js'
import type { Sdk } from '../harness/server.js'
import { openBackend, type StoreAddress } from './store.js'
import { buildServer } from './tools.js'

/** What a node weighs, in bytes, and what it holds. */
export interface Weight {
  heap: number
  outside: number
  resident: number
  liveSessions: number
  openStreams: number
  /** What `onerror` was told, and how often; numbers and ids left out. */
  errors: Record<string, number>
}

const [sdk, address = ''] = process.argv.slice(2)
const errors = new Map<string, number>()

const handler = createSessionHandler(() => buildServer(sdk as Sdk, () => currentSession().clientInfo?.name), {
  backend: await openBackend(JSON.parse(address) as StoreAddress),
  // What is abandoned must go, or the memory could not be flat.
  idleTtl: 20_000,
  liveIdle: 2000,
  keepAlive: 1000,
  // Each unknown id is answered at once: it is the answers that are tried here.
  limits: { misses: Number.POSITIVE_INFINITY },
  onerror(error) {
    const kind = `${error.message}${error.cause instanceof Error ? `: ${error.cause.message}` : ''}`.replace(
      /\d+/g,
      '#',
    )
    errors.set(kind.slice(0, 200), (errors.get(kind.slice(0, 200)) ?? 0) + 1)
  },
})

/** The verified auth of `Authorization: Bearer <name>`, as middleware in front would leave it. */
function authOf(header: string | null | undefined): AuthInfo | undefined {
  const name = /^Bearer (\w+)$/.exec(header ?? '')?.[1]
  return name === undefined ? undefined : { token: name, clientId: 'fuzz', scopes: [], extra: { sub: name } }
}

const byFetch = getRequestListener((request) => {
  const authInfo = authOf(request.headers.get('authorization'))
  return handler.fetch(request, authInfo && { authInfo })
})

async function weigh(): Promise<Weight> {
  globalThis.gc?.()
  const { heapUsed, external, rss } = process.memoryUsage()
  const { liveSessions, openStreams } = await handler.status()
  return {
    heap: heapUsed,
    outside: external,
    resident: rss,
    liveSessions,
    openStreams,
    errors: Object.fromEntries(errors),
  }
}

const server = createServer(async (req, res) => {
  if (req.url === '/weigh') res.end(JSON.stringify(await weigh()))
  else if (req.url?.startsWith('/fetch')) await byFetch(req, res)
  else {
    const auth = authOf(req.headers.authorization)
    await handler.node(Object.assign(req, auth && { auth }), res)
  }
})
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port))
process.stdin.on('end', () => process.exit()).resume()
