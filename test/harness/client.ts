/** Real clients of both SDK lines behind one face. */
import type {
  CallOptions,
  ClientCalls,
  ClientHandlers,
  ClientParts,
  Credentials,
  Notification,
  ToolResult,
} from './client-parts.js'
import { connectV1 } from './client-v1.js'
import { connectV2 } from './client-v2.js'
import { RecordedFetch, type Route } from './recorded-fetch.js'
import { Recorder } from './recorder.js'
import type { Sdk } from './server.js'

export type { ClientHandlers, Elicited, Notification } from './client-parts.js'

export interface ClientOptions {
  handlers?: ClientHandlers
  /** Sent as bearer token with each request. */
  token?: string
  /** Has the SDK get tokens by itself. */
  credentials?: Credentials
  /** Which node behind a proxy each request goes to; may be changed through the client's `wire`. */
  route?: Route
}

export interface TestClient extends ClientCalls {
  /** The text of a tool's answer; rejects if the tool failed. */
  call(tool: string, args?: Record<string, unknown>, options?: CallOptions): Promise<string>
  readonly sdk: Sdk
  readonly wire: RecordedFetch
  /** Every notification from the server that no request of the client's own has claimed. */
  readonly notifications: Recorder<Notification>
}

/** A connected client with its standalone stream open. Whoever connects one closes it. */
export async function connectClient(sdk: Sdk, url: string, options: ClientOptions = {}): Promise<TestClient> {
  const wire = new RecordedFetch(options.route)
  const notifications = new Recorder<Notification>()
  const calls = await connect(sdk, {
    name: `client-${sdk}`,
    url: new URL(url),
    handlers: options.handlers ?? {},
    headers: options.token === undefined ? {} : { authorization: `Bearer ${options.token}` },
    credentials: options.credentials,
    fetch: wire.fetch,
    onnotification: (notification) => notifications.add(notification),
  })
  try {
    await wire.streamOpened()
  } catch (error) {
    await calls.close()
    throw error
  }
  const call: TestClient['call'] = async (tool, args = {}, rest = {}) =>
    textOf(tool, await calls.callTool(tool, args, rest))
  return { ...calls, sdk, wire, notifications, call }
}

/** A client of one of the lines. */
export function connect(sdk: Sdk, parts: ClientParts): Promise<ClientCalls> {
  return (sdk === 'v1' ? connectV1 : connectV2)(parts)
}

/** The text of a tool's answer. */
function textOf(tool: string, { content, isError }: ToolResult): string {
  const text = (content as { text?: string }[] | undefined)?.[0]?.text ?? ''
  if (isError) throw new Error(`${tool}: ${text}`)
  return text
}
