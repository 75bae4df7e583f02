/** `mcp-roam serve`: a stdio server for many clients over HTTP, each session with a child process of its own. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createSessionHandler, type SessionHandler } from '../handler.js'
import { LOOPBACK_NAMES } from '../http/guard.js'
import type { ServerFactory, SessionHandlerOptions } from '../options.js'
import { defaultFile, openBackend, parseBackendUrl } from './backend-url.js'
import { inheritedEnv } from './child-env.js'
import { whyNotExecutable } from './executable.js'
import { Failure } from './failure.js'
import { stdioServer } from './stdio-server.js'

export interface ServeOptions {
  /** 0: any free one. */
  port: number
  host: string
  /** Of the MCP endpoint. */
  path: string
  /** Default: a SQLite file in the user's state folder. */
  backend?: string | undefined
  /** Given to each child besides what it inherits. */
  env: Readonly<Record<string, string>>
  allowedHosts: readonly string[]
  allowedOrigins: readonly string[]
  command: string
  args: readonly string[]
}

/** Serves until the first SIGTERM or SIGINT, and then until running calls are finished. Throws a {@link Failure}. */
export async function serve(options: ServeOptions, log: (line: string) => void): Promise<void> {
  const { host, path, env, command, args } = options
  const url = parseBackendUrl(options.backend ?? `sqlite:${defaultFile([command, ...args])}`)
  const trouble = whyNotExecutable(command, env.PATH ?? inheritedEnv().PATH)
  if (trouble !== undefined) throw new Failure(trouble)
  const backend = await openBackend(url)

  const onerror = (error: Error) => log(`mcp-roam: ${error.message}`)
  const factory: ServerFactory = ({ session }) => {
    const label = `[${session.id.slice(0, 8)}]`
    return stdioServer({
      command,
      args,
      env,
      onstderr: (line) => log(`${label} ${line}`),
      onerror: (error) => log(`${label} mcp-roam: ${error.message}`),
    })
  }
  const handler = createSessionHandler(factory, { backend, onerror, ...guardFor(options) })

  const server = createServer((req, res) => {
    const asked = req.url?.split('?', 1)[0]
    if (asked === path) void handler.node(req, res)
    else if (asked === '/healthz') void health(req, res, handler)
    else answer(res, 404, { error: `not found; the MCP endpoint is ${path}` })
  })

  const told = signalled()
  try {
    await listen(server, options.port, host)
    server.on('error', onerror)
    log(`mcp-roam: ready at ${addressOf(server, host)}${path}, node ${handler.nodeId}, backend ${nameOf(url)}`)
    await told
    log('mcp-roam: draining')
    await handler.drain()
  } finally {
    server.close()
    await handler.close()
    server.closeAllConnections()
  }
}

/**
 * Which names a request may use for this server, and which web pages may send it. On loopback the names are known, and
 * checking them keeps a page that was rebound to 127.0.0.1 out. Elsewhere the names are not known, but no page has any
 * business here unless it is named.
 */
function guardFor({ host, allowedHosts, allowedOrigins }: ServeOptions): Partial<SessionHandlerOptions> {
  if (isLoopback(host)) {
    const names = [...LOOPBACK_NAMES, inUrl(host)]
    return { allowedHosts: [...names, ...allowedHosts], allowedOrigins: [...names, ...allowedOrigins] }
  }
  return { allowedOrigins, ...(allowedHosts.length > 0 && { allowedHosts }) }
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

function inUrl(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}

function nameOf(url: ReturnType<typeof parseBackendUrl>): string {
  return url.kind === 'sqlite' ? `sqlite:${url.file}` : 'memory: (sessions end with this process)'
}

function addressOf(server: Server, host: string): string {
  const { port } = server.address() as AddressInfo
  return `http://${inUrl(host)}:${port}`
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

/** Resolves at the first signal to stop. The second one ends the process. */
function signalled(): Promise<void> {
  return new Promise((resolve) => {
    let count = 0
    const onsignal = (_name: string, number: number) => {
      if (++count > 1) process.exit(128 + number)
      resolve()
    }
    process.on('SIGTERM', onsignal)
    process.on('SIGINT', onsignal)
  })
}

async function health(req: IncomingMessage, res: ServerResponse, handler: SessionHandler): Promise<void> {
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    answer(res, 405, { error: 'GET only' }, { allow: 'GET, HEAD' })
    return
  }
  const status = await handler.status()
  answer(res, status.ready ? 200 : 503, status)
}

function answer(res: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers })
  res.end(`${JSON.stringify(body)}\n`)
}
