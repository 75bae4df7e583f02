/** What `serve` listens with: the MCP endpoint of a stdio server, and whether it is well. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Backend } from '../../backend/backend.js'
import { createSessionHandler, type DrainOptions } from '../../handler.js'
import { LOOPBACK_NAMES } from '../../http/guard.js'
import type { SessionHandlerOptions } from '../../options.js'
import type { ServerFactory } from '../../session/session.js'
import { Failure } from '../command-error.js'
import { stdioServer } from '../stdio/stdio-server.js'

const KEEP_ALIVE_TIMEOUT = 75_000

export interface ServiceOptions {
  /** 0: any free one. */
  port: number
  host: string
  /** Of the MCP endpoint. */
  path: string
  /** Given to each child besides what it inherits. */
  env: Readonly<Record<string, string>>
  allowedHosts: readonly string[]
  allowedOrigins: readonly string[]
  command: string
  args: readonly string[]
}

export interface Service {
  readonly nodeId: string
  readonly port: number
  /** Whether it is to be sent no more: for load balancers (503 from /healthz), and for clients' connections. */
  leaving: boolean
  /** Takes no more connections; those that are there go on. */
  stopListening(): void
  drain(options: DrainOptions): Promise<void>
  close(): Promise<void>
}

type Log = (line: string) => void

/** Resolves when it serves. Throws a {@link Failure} if it cannot listen. */
export async function startService(options: ServiceOptions, backend: Backend, log: Log): Promise<Service> {
  const { path, host } = options
  const onerror = (error: Error) => log(`mcp-roam: ${error.message}`)
  const handler = createSessionHandler(factoryFor(options, log), { backend, onerror, ...guardFor(options) })

  const server = createServer((req, res) => {
    // What stays open would keep coming back here.
    if (service.leaving) res.setHeader('connection', 'close')
    const asked = req.url?.split('?', 1)[0]
    if (asked === path) void handler.node(req, res)
    else if (asked === '/healthz') void health(req, res)
    else answer(res, 404, { error: `not found; the MCP endpoint is ${path}` })
  })

  // Longer than proxies keep an idle connection to reuse it: else one is closed just when a request is sent on it.
  server.keepAliveTimeout = KEEP_ALIVE_TIMEOUT

  const health = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      answer(res, 405, { error: 'GET only' }, { allow: 'GET, HEAD' })
      return
    }
    const status = await handler.status()
    const ready = status.ready && !service.leaving
    answer(res, ready ? 200 : 503, { ...status, ready })
  }

  const close = async () => {
    server.close()
    await handler.close()
    server.closeAllConnections()
  }
  const service: Service = {
    nodeId: handler.nodeId,
    get port() {
      return (server.address() as AddressInfo).port
    },
    leaving: false,
    stopListening: () => void server.close(),
    drain: (drain) => handler.drain(drain),
    close,
  }
  try {
    await listen(server, options.port, host)
  } catch (error) {
    await close()
    throw error
  }
  server.on('error', onerror)
  return service
}

/**
 * For workers that are to listen on any free port: they must agree on it, now and later, and cluster takes 0 and the port that
 * it stood for as two. Should somebody else take it meanwhile, the workers say so.
 */
export async function freePort(host: string): Promise<number> {
  const server = createServer()
  await listen(server, 0, host)
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

/** A host as it stands in a URL. */
export function inUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}

function factoryFor({ command, args, env }: ServiceOptions, log: Log): ServerFactory {
  return ({ session }) => {
    const label = `[${session.id.slice(0, 8)}]`
    return stdioServer({
      command,
      args,
      env,
      onstderr: (line) => log(`${label} ${line}`),
      onerror: (error) => log(`${label} mcp-roam: ${error.message}`),
    })
  }
}

/**
 * Which names a request may use for this server, and which web pages may send it. On loopback the names are known, and
 * checking them keeps a page that was rebound to 127.0.0.1 out. Elsewhere the names are not known, but no page has any
 * business here unless it is named.
 */
function guardFor({ host, allowedHosts, allowedOrigins }: ServiceOptions): Partial<SessionHandlerOptions> {
  if (isLoopback(host)) {
    const names = [...LOOPBACK_NAMES, inUrl(host)]
    return { allowedHosts: [...names, ...allowedHosts], allowedOrigins: [...names, ...allowedOrigins] }
  }
  return { allowedOrigins, ...(allowedHosts.length > 0 && { allowedHosts }) }
}

async function listen(server: Server, port: number, host: string): Promise<void> {
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (error) {
    throw new Failure(whyNotListening(error as NodeJS.ErrnoException, port, host), 1, { cause: error })
  }
}

function whyNotListening(error: NodeJS.ErrnoException, port: number, host: string): string {
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

function answer(res: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers })
  res.end(`${JSON.stringify(body)}\n`)
}
