/** The SDKs' own transports, wired as their examples do: a map of transports by session id, each with its server. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'

export interface SdkTransport {
  handleRequest(req: IncomingMessage, res: ServerResponse): Promise<void>
}

export interface SdkTransportOptions {
  sessionIdGenerator: () => string
  onsessioninitialized: (id: string) => void
  enableJsonResponse: boolean
}

/** `json`: whether answers are JSON instead of the SDKs' default, an SSE stream each. */
export function sdk(json: boolean, open: (options: SdkTransportOptions) => Promise<SdkTransport>): RequestListener {
  const sessions = new Map<string, SdkTransport>()
  return async (req, res) => {
    const id = req.headers['mcp-session-id'] as string | undefined
    let transport = id === undefined ? undefined : sessions.get(id)
    transport ??= await open({
      sessionIdGenerator: randomUUID,
      enableJsonResponse: json,
      onsessioninitialized: (id) => void sessions.set(id, transport as SdkTransport),
    })
    await transport.handleRequest(req, res)
  }
}
