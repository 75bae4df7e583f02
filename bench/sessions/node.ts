/** The process of one node: `node.ts <database file> <most live sessions>`, with --expose-gc. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { answer } from '../ipc.js'
import { echoV2 } from '../servers/echo.js'
import { roam } from '../servers/roam.js'

/** Where the node listens, and the bytes it holds after a collection. */
export interface NodeState {
  url: string
  rss: number
  heapUsed: number
}

const [file, maxLive] = process.argv.slice(2)
const server = createServer(roam(echoV2, file, { maxLiveSessions: Number(maxLive) }))
server.listen(0, '127.0.0.1')
await once(server, 'listening')

async function state(): Promise<NodeState> {
  // Twice, with a pause: what evicted sessions still had to close is garbage only after it.
  global.gc?.()
  await setTimeout(200)
  global.gc?.()
  const { rss, heapUsed } = process.memoryUsage()
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`, rss, heapUsed }
}

answer(await state(), state)
