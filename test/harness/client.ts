/** Real clients of both SDK lines behind one face, so that a test is written once. */
import { connectV1 } from './client-v1.js'
import { connectV2 } from './client-v2.js'
import { RecordedFetch, type Route } from './recorded-fetch.js'
import { Recorder } from './recorder.js'
import type { Sdk } from './server.js'

export interface Notification {
  method: string
  params?: Record<string, unknown> | undefined
}

/** How the client answers what a server asks; what is left out is a capability that it does not have. */
export interface ClientHandlers {
  sampling?(prompt: string, report: ReportProgress): string | Promise<string>
  elicitation?(message: string): Elicited | Promise<Elicited>
  roots?(): { uri: string; name?: string }[]
}

/** Tells the server how its request comes along; does nothing if the server did not ask for it. */
export type ReportProgress = (progress: number) => Promise<void>

export interface Elicited {
  action: 'accept' | 'decline' | 'cancel'
  content?: Record<string, string>
}

export interface ClientOptions {
  handlers?: ClientHandlers
  /** Sent as bearer token with each request. */
  token?: string
  /** Which node behind a proxy each request goes to; may be changed through the client's `wire`. */
  route?: Route
}

/** What the connecting functions of the two lines work with. */
export interface ClientParts {
  name: string
  url: URL
  handlers: ClientHandlers
  headers: Record<string, string>
  wire: RecordedFetch
  notifications: Recorder<Notification>
}

export interface CallOptions {
  onprogress?(progress: { progress: number; total?: number | undefined }): void
  signal?: AbortSignal
}

/** What the two lines' clients do, in words of one syllable: results are cut down to what tests look at. */
export interface ClientCalls {
  sessionId(): string | undefined
  serverName(): string | undefined
  ping(): Promise<void>
  /** Names. */
  tools(): Promise<string[]>
  /** The text of the answer; rejects if the tool failed. */
  call(tool: string, args?: Record<string, unknown>, options?: CallOptions): Promise<string>
  /** URIs. */
  resources(): Promise<string[]>
  /** URI templates. */
  templates(): Promise<string[]>
  /** Text or base64. */
  read(uri: string): Promise<string>
  subscribe(uri: string): Promise<void>
  unsubscribe(uri: string): Promise<void>
  /** Names. */
  prompts(): Promise<string[]>
  /** Text of the first message. */
  prompt(name: string, args?: Record<string, string>): Promise<string>
  /** Completions of a prompt's argument. */
  complete(prompt: string, argument: string, value: string): Promise<string[]>
  setLevel(level: 'debug' | 'info' | 'warning' | 'error'): Promise<void>
  rootsChanged(): Promise<void>
  /** DELETE. */
  terminate(): Promise<void>
  /** Lets go of the session without ending it. */
  close(): Promise<void>
}

export interface TestClient extends ClientCalls {
  readonly sdk: Sdk
  readonly wire: RecordedFetch
  /** Every notification from the server that no request of the client's own has claimed. */
  readonly notifications: Recorder<Notification>
}

/** Clients reconnect at once and do not give up while a test restarts a server. */
export const RECONNECTION = {
  initialReconnectionDelay: 50,
  maxReconnectionDelay: 200,
  reconnectionDelayGrowFactor: 1.5,
  maxRetries: 100,
}

/** A connected client with its standalone stream open. Whoever connects one closes it. */
export async function connectClient(sdk: Sdk, url: string, options: ClientOptions = {}): Promise<TestClient> {
  const wire = new RecordedFetch(options.route)
  const notifications = new Recorder<Notification>()
  const calls = await (sdk === 'v1' ? connectV1 : connectV2)({
    name: `client-${sdk}`,
    url: new URL(url),
    handlers: options.handlers ?? {},
    headers: options.token === undefined ? {} : { authorization: `Bearer ${options.token}` },
    wire,
    notifications,
  })
  try {
    await wire.streamOpened()
  } catch (error) {
    await calls.close()
    throw error
  }
  return { sdk, wire, notifications, ...calls }
}

/** The text of a tool's answer. */
export function textOf(tool: string, result: object): string {
  const { content, isError } = result as { content?: { text?: string }[]; isError?: boolean }
  const text = content?.[0]?.text ?? ''
  if (isError) throw new Error(`${tool}: ${text}`)
  return text
}
