/** The process of one node: `node.ts <url, or SQLite file> <secret or nothing>`. It counts how often its store is asked for a session. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createSessionHandler } from 'mcp-roam'
import { postgres } from 'mcp-roam/postgres'
import { redis } from 'mcp-roam/redis'
import { sqlite } from 'mcp-roam/sqlite'
import { answer } from '../ipc.js'
import { echoV2 } from '../servers/echo.js'

export interface NodeState {
  url: string
  /** Of the store, since the start. */
  reads: number
  /** Processor time, in microseconds. */
  cpu: number
}

const [at = '', secret] = process.argv.slice(2)
const backend = at.startsWith('postgres:')
  ? postgres({ url: at })
  : at.startsWith('redis:')
    ? redis({ url: at })
    : sqlite({ file: at })

let reads = 0
const { sessions } = backend
const load: typeof sessions.load = (id, holder) => {
  reads++
  return sessions.load(id, holder)
}
const counted = { ...backend, sessions: { ...sessions, load } }

const handler = createSessionHandler(echoV2, {
  backend: counted,
  ...(secret && { secret }),
  // Whom a request comes from is in a header here.
  principal: (_, request) => request.headers.get('x-principal') ?? undefined,
})
const server = createServer(handler.node).listen(0, '127.0.0.1')
await once(server, 'listening')
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`
const state = (): NodeState => {
  const { user, system } = process.cpuUsage()
  return { url, reads, cpu: user + system }
}

answer<object, NodeState>(state(), state)
