/** The address that `serve` listens on: how a URL writes it, which port is free, and why it cannot be listened on. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { CommandError } from '../command-error.js'

/** The host as a URL has it: an IPv6 address in brackets. */
export function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}

/**
 * Resolves when the server listens.
 *
 * @param port 0: any free one.
 * @throws CommandError if it cannot.
 */
export async function listen(server: Server, port: number, host: string): Promise<void> {
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (error) {
    throw new CommandError(reasonOf(error as NodeJS.ErrnoException, port, host), 1, { cause: error })
  }
}

/**
 * A port that is free now. If another process takes it before it is used, `listen` says so.
 *
 * @throws CommandError if the host cannot be listened on.
 */
export async function freePort(host: string): Promise<number> {
  const server = createServer()
  await listen(server, 0, host)
  const port = portOf(server)
  server.close()
  await once(server, 'close')
  return port
}

/** The port that a listening server has. */
export function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server does not listen on a port')
  return address.port
}

function reasonOf(error: NodeJS.ErrnoException, port: number, host: string): string {
  switch (error.code) {
    case 'EADDRINUSE':
      return `port ${port} on ${host} is in use; choose another with --port`
    case 'EACCES':
      return `port ${port} is not open to this user; choose one above 1023 with --port`
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `${host} is not an address of this machine; choose another with --host`
    default:
      return `cannot listen on ${host}:${port}: ${error.message}`
  }
}
