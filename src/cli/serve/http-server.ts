/** One node of `serve`: an HTTP server with the MCP endpoint of a stdio server, and `/healthz`. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Backend } from '../../backend/backend.js'
import type { Encryption } from '../../backend/sealed/keyring.js'
import { createSessionHandler, type DrainOptions, type NodeStatus } from '../../handler.js'
import { type GuardOptions, guard } from '../../http/guard.js'
import { isLoopback, LOOPBACK_NAMES } from '../../http/loopback.js'
import { NodeHttpRequest, type NodeRequest } from '../../http/node.js'
import { Notices } from '../../http/notices.js'
import { defaultPrincipal } from '../../session/principal.js'
import type { ServerFactory } from '../../session/session.js'
import { asError } from '../../util/error.js'
import { Refusal } from '../../wire/refusal.js'
import { ChildPlaces } from '../stdio/child-places.js'
import { stdioServer } from '../stdio/stdio-server.js'
import { listen, portOf, urlHost } from './address.js'
import { authenticator } from './auth/authenticator.js'
import { Denied } from './auth/denied.js'
import type { AuthOptions } from './auth/options.js'
import { limitByAddress, type Rate } from './rate.js'

/**
 * How long an idle connection is kept, in ms. Longer than proxies keep theirs (mostly 60 s), so that the proxy closes it:
 * if the server did, it could close one that the proxy is just sending a request on.
 */
const KEEP_ALIVE_TIMEOUT = 75_000

/**
 * How long what `/healthz` has found out is said again, in ms: whoever reaches it may ask as often as they like, and each time
 * is work for the backend that all nodes share.
 */
const HEALTH_AGE = 100

export interface HttpServerOptions {
  /** Default: nothing is encrypted. */
  encryption?: Encryption
  /** Default: session ids are not signed. */
  secret?: readonly string[]
  /** 0: any free one. */
  port: number
  host: string
  /** Path of the MCP endpoint. */
  path: string
  /** Program of the stdio server, looked up in `PATH`. */
  command: string
  args: readonly string[]
  /** Variables for the stdio server, besides those that it inherits. */
  env: Readonly<Record<string, string>>
  /** Names that requests may be addressed to, besides those of loopback. */
  allowedHosts: readonly string[]
  /** Origins of web pages that may send requests, besides those of loopback. */
  allowedOrigins: readonly string[]
  /** Who may call it. */
  auth: AuthOptions
  /** Live sessions, and so children. */
  maxSessions: number
  /** When the child of a session without work ends, in ms. */
  idle: number
  /** When a session that nobody uses is forgotten, in ms. */
  sessionTtl: number
  /** How many sessions each address may begin. Default: any number. */
  rate?: Rate | undefined
}

export interface HttpServer {
  readonly nodeId: string
  readonly port: number
  /** Whether requests should go to other nodes: `/healthz` answers 503, and responses carry `Connection: close`. */
  leaving: boolean
  /** Accepts no more connections; those that are open go on. */
  stopListening(): void
  drain(options: DrainOptions): Promise<void>
  close(): Promise<void>
}

/** Writes one line of the log. */
export type Log = (line: string) => void

/**
 * Resolves when it listens.
 *
 * @throws CommandError if it cannot listen.
 */
export async function startHttpServer(options: HttpServerOptions, backend: Backend, log: Log): Promise<HttpServer> {
  const { path, host } = options
  const onerror = (error: Error) => log(`mcp-roam: ${error.message}`)
  const guarded = guardFor(options)
  const limit = options.rate && (await limitByAddress(options.rate))
  const handler = createSessionHandler(factoryFor(options, log), {
    backend,
    ...(options.encryption && { encryption: options.encryption }),
    ...(options.secret && { secret: options.secret }),
    onerror,
    // The default one, by name: a key has no subject, and its client id is one person's all the same.
    principal: defaultPrincipal,
    maxLiveSessions: options.maxSessions,
    liveIdle: options.idle,
    idleTtl: options.sessionTtl,
    ...(limit && { rateLimit: limit.rateLimit }),
    ...guarded,
  })
  const checkHealth = guard({ ...guarded, anyAddress: true, notices: new Notices(onerror) })
  let endpoint = ''
  const auth = authenticator(options.auth, () => endpoint, onerror)

  const server = createServer((req, res) => {
    // A client that keeps its connection would keep sending requests to this node.
    if (httpServer.leaving) res.setHeader('connection', 'close')
    const requested = req.url?.split('?', 1)[0]
    if (requested === path && limit) limit.serve(req, () => void answer(req, res))
    else if (requested === path) void answer(req, res)
    else if (requested === '/healthz') void health(req, res)
    else if (requested !== undefined && auth?.resource?.isAt(requested)) sendDocument(req, res, auth.resource.document)
    else sendJson(res, 404, { error: `not found; the MCP endpoint is ${path}` })
  })
  server.keepAliveTimeout = KEEP_ALIVE_TIMEOUT

  const answer = async (req: NodeRequest, res: ServerResponse): Promise<void> => {
    // A browser asks with OPTIONS first whether it may send a request at all, and shows no credential.
    if (auth && req.method !== 'OPTIONS') {
      try {
        req.auth = await auth.authenticate(req)
      } catch (error) {
        if (!(error instanceof Denied)) onerror(asError(error))
        auth.deny(res, error)
        return
      }
    }
    await handler.node(req, res)
  }

  let found: Promise<NodeStatus> | undefined
  const look = () => {
    found ??= handler.status().finally(() => setTimeout(() => (found = undefined), HEALTH_AGE).unref())
    return found
  }

  const health = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    try {
      checkHealth(new NodeHttpRequest(req, undefined))
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      sendJson(res, error.status, { error: error.message })
      return
    }
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      sendJson(res, 405, { error: 'GET only' }, { allow: 'GET, HEAD' })
      return
    }
    const status = await look()
    const ready = status.ready && !httpServer.leaving
    sendJson(res, ready ? 200 : 503, { ...status, ready })
  }

  const httpServer: HttpServer = {
    nodeId: handler.nodeId,
    get port() {
      return portOf(server)
    },
    leaving: false,
    stopListening: () => void server.close(),
    drain(drain) {
      const drained = handler.drain(drain)
      found = undefined
      return drained
    },
    async close() {
      server.close()
      await handler.close()
      server.closeAllConnections()
    },
  }
  try {
    await listen(server, options.port, host)
  } catch (error) {
    await httpServer.close()
    throw error
  }
  endpoint = `http://${urlHost(host)}:${portOf(server)}${path}`
  server.on('error', onerror)
  return httpServer
}

function factoryFor({ command, args, env, maxSessions }: HttpServerOptions, log: Log): ServerFactory {
  // A session that leaves for a new one leaves a child that takes its time to end.
  const places = new ChildPlaces(maxSessions)
  return ({ session }) => {
    const label = `[${session.id.slice(0, 8)}]`
    return stdioServer({
      command,
      args,
      env,
      place: () => places.take(),
      onstderr: (line) => log(`${label} ${line}`),
      onerror: (error) => log(`${label} mcp-roam: ${error.message}`),
    })
  }
}

/** What is named comes to the loopback names, which the handler knows by itself where nothing is named. */
function guardFor({ host, allowedHosts, allowedOrigins }: HttpServerOptions): GuardOptions {
  const own = [...LOOPBACK_NAMES, urlHost(host)]
  return {
    ...(allowedHosts.length > 0 && { allowedHosts: [...own, ...allowedHosts] }),
    // Elsewhere web pages are refused unless they are named.
    ...(!isLoopback(host) && { allowedOrigins }),
    ...(isLoopback(host) && allowedOrigins.length > 0 && { allowedOrigins: [...own, ...allowedOrigins] }),
  }
}

/** A document for everybody, web pages of any origin included: they have nothing to do with who may call the endpoint. */
function sendDocument(req: IncomingMessage, res: ServerResponse, document: object): void {
  const headers = { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*' }
  if (req.method === 'OPTIONS') res.writeHead(204, headers).end()
  else if (req.method !== 'GET' && req.method !== 'HEAD')
    sendJson(res, 405, { error: 'GET only' }, { allow: 'GET, HEAD' })
  else sendJson(res, 200, document, headers)
}

function sendJson(res: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers })
  res.end(`${JSON.stringify(body)}\n`)
}
