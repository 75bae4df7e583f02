/** The process of one server under test: `server.ts <name> <database file>`. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { answer } from './ipc.js'
import { KINDS } from './servers/kinds.js'
import type { ServerName } from './servers/names.js'

/** What the server's process has used so far, and where it listens. */
export interface ServerState {
  port: number
  /** Processor time, in microseconds. */
  cpu: number
}

const [name, file] = process.argv.slice(2) as [ServerName, string]
const server = createServer(await KINDS[name](file))
server.listen(0, '127.0.0.1')
await once(server, 'listening')

function state(): ServerState {
  const { user, system } = process.cpuUsage()
  return { port: (server.address() as AddressInfo).port, cpu: user + system }
}

answer(state(), state)
