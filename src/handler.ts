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

export interface FetchOptions {
  /** What the host program verified of the request's token. */
  authInfo?: AuthInfo
  /** The body, if it was parsed already. */
  parsedBody?: unknown
}

/**
 * Tells clients what changed: each session that is live on some node, or has a stream open there, once, on its standalone
 * stream. Resolves when all nodes have been told, or have not answered for 2 s; rejects if the backend is away.
 */
export interface Notifier {
  /** `notifications/tools/list_changed` to every session. */
  toolsChanged(): Promise<void>
  /** `notifications/prompts/list_changed` to every session. */
  promptsChanged(): Promise<void>
  /** `notifications/resources/list_changed` to every session. */
  resourcesChanged(): Promise<void>
  /** `notifications/resources/updated` to the sessions subscribed to the URI. */
  resourceUpdated(uri: string): Promise<void>
  /**
   * Any notification, to one session. False: there is no such session.
   *
   * @example
   * await handler.notify.session(id, { method: 'notifications/message', params: { level: 'info', data: 'Ready' } })
   */
  session(id: string, notification: { method: string; params?: Record<string, unknown> }): Promise<boolean>
}

export interface NodeStatus {
  nodeId: string
  /** Whether to send requests here. */
  ready: boolean
  backend: 'available' | 'unavailable'
  /** Sessions live in this node's memory. */
  liveSessions: number
  /** SSE connections open on this node. */
  openStreams: number
}

export interface DrainOptions {
  notice?: number
  timeout?: number
}

export interface SessionDirectory {
  /** All sessions of the store. One that comes or goes meanwhile may be missed or seen. */
  list(): AsyncIterable<SessionInfo>
  /** Undefined: unknown, expired or deleted. */
  get(id: string): Promise<SessionInfo | undefined>
  /** Ends a session as its client's DELETE does; false if there was none. */
  delete(id: string): Promise<boolean>
}

export interface SessionHandler {
  /** This node's id; new at every start. */
  readonly nodeId: string
  /** Answers a web `Request`: Hono, Bun, Deno. */
  fetch(request: Request, options?: FetchOptions): Promise<Response>
  /**
   * Answers a request of node:http, Express or Fastify. Reads verified auth from `req.auth`, as the SDKs do, and the body
   * from `parsedBody`, else from `req.body` if a body parser left one there.
   */
  node(req: IncomingMessage & { auth?: AuthInfo | undefined }, res: ServerResponse, parsedBody?: unknown): Promise<void>
  readonly notify: Notifier
  readonly sessions: SessionDirectory
  /** How this node does, for health checks. Never rejects. */
  status(): Promise<NodeStatus>
  /**
   * Hands this node's work over, before it ends: says so in `status().ready`, and serves everything for `notice` ms more
   * (default 0; what a load balancer takes to learn of it); then answers new requests 503, gives running calls `timeout` ms
   * (default 10,000) to finish, leaves the others to the nodes that their clients turn to, and closes all streams, telling
   * clients to come back.
   */
  drain(options?: DrainOptions): Promise<void>
  /** Drops all live sessions, which go on in the backend, and closes the backend. */
  close(): Promise<void>
}

/**
 * An MCP endpoint over Streamable HTTP whose sessions survive restarts and can be served by any node.
 *
 * @param factory Builds the server instance of one session: for each new session, and again for each restore.
 * @throws TypeError for an option that cannot be right; the message says what to write instead.
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

  let leaving = false

  return {
    nodeId: cluster.node.id,

    async fetch(request, { authInfo, parsedBody } = {}) {
      const reply = new FetchHttpReply()
      await endpoint.serve(new FetchHttpRequest(request, authInfo, parsedBody), reply)
      return reply.response
    },

    async node(req: NodeRequest, res, parsedBody) {
      // A connection that stays open would keep coming back here.
      if (leaving) res.setHeader('connection', 'close')
      // Used as middleware, the third argument is Express's `next`.
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
        await streams.writers.send(id, JSON.stringify({ jsonrpc: '2.0', method, ...(params && { params }) }))
        return true
      },
    },

    sessions: {
      async *list() {
        for await (const record of backend.sessions.list()) yield infoOf(record)
      },
      async get(id) {
        const record = await backend.sessions.load(id)
        return record && infoOf(record)
      },
      delete: (id) => sessions.delete(id),
    },

    async status() {
      const backendStatus = await backend.ping().then(
        () => 'available' as const,
        () => 'unavailable' as const,
      )
      return {
        nodeId: cluster.node.id,
        ready: !leaving && backendStatus === 'available',
        backend: backendStatus,
        liveSessions: sessions.size,
        openStreams: streams.open.size,
      }
    },

    async drain({ notice = 0, timeout = 10_000 } = {}) {
      leaving = true
      if (notice > 0) await delay(notice)
      endpoint.draining = true
      await sessions.quiet(timeout)
      await sessions.handOver()
      await streams.writers.flushed()
      // First, so that no client comes back to find this node still counted among the living.
      await cluster.close()
      streams.close()
    },

    async close() {
      leaving = true
      endpoint.draining = true
      await assembly.close()
      await backend.close()
    },
  }
}
