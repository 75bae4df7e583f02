/** `createSessionHandler`: an MCP endpoint whose sessions outlive the process. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { assemble } from './assemble.js'
import { Endpoint } from './http/endpoint.js'
import { FetchHttpReply, FetchHttpRequest } from './http/fetch.js'
import { NodeHttpReply, NodeHttpRequest, type NodeRequest } from './http/node.js'
import { resolveOptions, type SessionHandlerOptions } from './options.js'
import type { ServerFactory, SessionInfo } from './session/session.js'
import { infoOf } from './session/view.js'
import type { AuthInfo } from './wire/sdk.js'

/** What the host program knows of a web `Request` besides the request itself. */
export interface FetchOptions {
  /** The verified auth of the request. Default: none, the request is anonymous. */
  authInfo?: AuthInfo
  /** The body, if it was parsed already: the JSON value. Default: it is read from the request. */
  parsedBody?: unknown
}

/**
 * Sends notifications to clients, from outside of their sessions' handlers.
 *
 * All but `session` reach each initialized session that is live on some node, or has a stream open there: once, on its
 * standalone stream, unless its client never listens. They resolve when all nodes have told their sessions; a node that does
 * not say so for 2 s is told to `onerror`. They reject if the backend is away.
 *
 * @example
 * await handler.notify.resourceUpdated('file:///notes.txt')
 */
export interface Notifier {
  /** `notifications/tools/list_changed` to every session (2025-11-25, server/tools, "List Changed Notification"). */
  toolsChanged(): Promise<void>
  /** `notifications/prompts/list_changed` to every session (2025-11-25, server/prompts, "List Changed Notification"). */
  promptsChanged(): Promise<void>
  /** `notifications/resources/list_changed` to every session (2025-11-25, server/resources, "List Changed Notification"). */
  resourcesChanged(): Promise<void>
  /** `notifications/resources/updated` to sessions subscribed to the URI (2025-11-25, server/resources, "Subscriptions"). */
  resourceUpdated(uri: string): Promise<void>
  /**
   * Any notification, to one session, whether a client is connected or not: it waits on the standalone stream. It is sent
   * whatever log level the client has set. False: there is no such session. Rejects if the backend is away.
   *
   * @example
   * await handler.notify.session(id, { method: 'notifications/message', params: { level: 'info', data: 'Ready' } })
   */
  session(id: string, notification: { method: string; params?: Record<string, unknown> }): Promise<boolean>
}

/** How a node is doing. */
export interface NodeStatus {
  /** This node's id; new at every start. */
  nodeId: string
  /** Whether requests should be sent to this node: it is not draining or closed, and its backend is available. */
  ready: boolean
  /**
   * Whether the backend answered within `backendTimeout`, and took this node's heartbeat: one that can be read but not written
   * (memory or disk full, read-only after a failover) is unavailable.
   */
  backend: 'available' | 'unavailable'
  /** Number of sessions live in this node's memory. */
  liveSessions: number
  /** Number of SSE connections open on this node. */
  openStreams: number
  /** Messages that clients should have got from this node since its start, and that the event log never took or no longer held. */
  lostMessages: number
  /**
   * How many requests this node has refused since its start because a limit was reached, by reason. `full` (503):
   * `maxLiveSessions` or `limits.allStreams`. The others (429): `rateLimit`, `limits.requests`, `limits.streams`,
   * `limits.principal`. A node that refuses is still ready: it serves those who have a session.
   */
  refused: Record<'full' | 'rateLimited' | 'tooManyRequests' | 'tooManyStreams' | 'tooManySessions', number>
}

/** How long the steps of {@link SessionHandler.drain} may take. */
export interface DrainOptions {
  /** How long everything is still served after `status().ready` has become false, in ms. Default 0. */
  notice?: number
  /** How long running calls may then take to finish, in ms. Default 10,000. */
  timeout?: number
}

/** The sessions of the backend, on whichever node they are live. All methods reject if the backend is away. */
export interface SessionDirectory {
  /**
   * All sessions of the store, in no particular order. One that is created or deleted meanwhile may be missed or seen.
   *
   * @example
   * for await (const session of handler.sessions.list()) console.log(session.id, session.clientInfo?.name)
   */
  list(): AsyncIterable<SessionInfo>
  /** One session; undefined: unknown, expired or deleted. */
  get(id: string): Promise<SessionInfo | undefined>
  /**
   * Ends a session on all nodes, as its client's DELETE does (2025-11-25, basic/transports, "Session Management"). False:
   * there was none. Rejects with what `onSessionClosed` throws, the session being over all the same.
   */
  delete(id: string): Promise<boolean>
}

/** What {@link createSessionHandler} returns: one node. */
export interface SessionHandler {
  /** This node's id; new at every start. */
  readonly nodeId: string
  /**
   * Answers a web `Request`: Hono, Bun, Deno. Resolves when the status is known; the body may be a stream. Never rejects.
   *
   * @example
   * app.all('/mcp', (context) => handler.fetch(context.req.raw))
   */
  fetch(request: Request, options?: FetchOptions): Promise<Response>
  /**
   * Answers a request of node:http, Express or Fastify. Reads verified auth from `req.auth`, as the SDKs do, and the body
   * from `parsedBody`, else from `req.body` if a body parser left one there. Resolves when the request was taken on or
   * refused; the response may end later. Never rejects.
   *
   * @example
   * app.all('/mcp', handler.node) // Express
   */
  node(req: IncomingMessage & { auth?: AuthInfo | undefined }, res: ServerResponse, parsedBody?: unknown): Promise<void>
  /** Sends notifications to clients of the whole cluster. */
  readonly notify: Notifier
  /** The sessions of the backend. */
  readonly sessions: SessionDirectory
  /**
   * How this node is doing, for readiness checks. Asks the backend, and has it take this node's heartbeat, each for at most
   * `backendTimeout`. A node that has not joined its cluster yet does so. Never rejects.
   */
  status(): Promise<NodeStatus>
  /**
   * Hands this node's work over to the others, before it ends. Call `close` after it.
   *
   * 1. `status().ready` becomes false, and everything is served for `notice` ms more: the time that load balancers take to
   *    learn of it.
   * 2. New requests, new sessions and GETs are answered 503. Running calls get `timeout` ms to finish; what they wait for
   *    (responses, notifications) and DELETE still get through.
   * 3. Calls that still run are handed over to the nodes that their clients turn to.
   * 4. The node leaves the cluster and closes all streams, telling clients to come back after `retryInterval`.
   *
   * @example
   * process.once('SIGTERM', async () => {
   *   await handler.drain({ notice: 5_000 })
   *   await handler.close()
   * })
   */
  drain(options?: DrainOptions): Promise<void>
  /**
   * Drops all live sessions, which go on in the backend, and closes the backend; a client that was handed in to it stays
   * open. Calls that still run end with an error: their outcome is unknown.
   */
  close(): Promise<void>
}

/**
 * An MCP endpoint over Streamable HTTP whose sessions survive restarts and can be served by any node.
 *
 * @param factory Builds the server instance of one session: for each new session, and again for each restore.
 * @param options Where sessions live, and how they behave; by default they live in memory.
 * @throws TypeError for an option whose value cannot be right; the message says what it must be.
 * @example
 * const handler = createSessionHandler(() => buildServer(), { backend: sqlite({ file: 'sessions.db' }) })
 * http.createServer(handler.node).listen(3000)
 */
export function createSessionHandler(factory: ServerFactory, options: SessionHandlerOptions = {}): SessionHandler {
  if (typeof factory !== 'function') throw new TypeError('the first argument must be a function that builds a server')
  const resolved = resolveOptions(options)
  const assembly = assemble(factory, resolved)
  const { backend, cluster, sessions, streams } = assembly
  const endpoint = new Endpoint(sessions, streams.connections, resolved)
  sessions.listen()

  let leaving = false

  return {
    nodeId: cluster.node.id,

    async fetch(request, { authInfo, parsedBody } = {}) {
      const reply = new FetchHttpReply(request)
      await endpoint.serve(new FetchHttpRequest(request, authInfo, parsedBody), reply)
      return reply.response
    },

    async node(req: NodeRequest, res, parsedBody) {
      // A client that keeps its connection would keep sending requests to this node.
      if (leaving) res.setHeader('connection', 'close')
      // As Express middleware it gets `next` as its third argument.
      const body = parsedBody === undefined || typeof parsedBody === 'function' ? req.body : parsedBody
      await endpoint.serve(new NodeHttpRequest(req, body), new NodeHttpReply(res))
    },

    notify: {
      toolsChanged: () => sessions.broadcast('notifications/tools/list_changed'),
      promptsChanged: () => sessions.broadcast('notifications/prompts/list_changed'),
      resourcesChanged: () => sessions.broadcast('notifications/resources/list_changed'),
      resourceUpdated: (uri) => sessions.broadcast('notifications/resources/updated', { uri }),
      async session(id, { method, params }) {
        if (!(await backend.sessions.load(id))) return false
        await streams.writers.sendDurably(id, JSON.stringify({ jsonrpc: '2.0', method, ...(params && { params }) }))
        return true
      },
    },

    sessions: {
      async *list() {
        for await (const record of backend.sessions.list()) yield infoOf(record)
      },
      async get(id) {
        const stored = await backend.sessions.load(id)
        return stored && infoOf(stored.record)
      },
      delete: (id) => sessions.stored.delete(id),
    },

    async status() {
      // A node that is asked how it does takes part in the cluster from then on: it learns in time who else is alive.
      const backendStatus = await Promise.all([backend.ping(), cluster.node.proveAlive()]).then(
        () => 'available' as const,
        () => 'unavailable' as const,
      )
      return {
        nodeId: cluster.node.id,
        ready: !leaving && backendStatus === 'available',
        backend: backendStatus,
        liveSessions: sessions.size,
        openStreams: streams.open.size,
        lostMessages: streams.open.lost,
        refused: { ...endpoint.refused },
      }
    },

    async drain({ notice = 0, timeout = 10_000 } = {}) {
      leaving = true
      if (notice > 0) await delay(notice)
      endpoint.draining = true
      await sessions.drain(timeout)
      await streams.recorded()
      // Before the streams end: a client comes back at once, and the node it finds must know that this one is gone.
      await cluster.close()
      await streams.close()
    },

    async close() {
      leaving = true
      endpoint.draining = true
      await assembly.close()
      await backend.close()
    },
  }
}
