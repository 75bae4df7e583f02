/** What the clients of both SDK lines are made of here, so that a test is written once. */

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

export interface Credentials {
  clientId: string
  clientSecret: string
  expectedIssuer: string
  /** Line 1 asks for no other, whatever the server says that it needs. */
  scope: string
}

/** What the connecting functions of the two lines work with. */
export interface ClientParts {
  name: string
  url: URL
  handlers: ClientHandlers
  headers?: Record<string, string>
  /** Gets itself tokens, the way that the SDKs have for programs: the grant `client_credentials`. */
  credentials?: Credentials | undefined
  fetch(url: string | URL, init?: RequestInit): Promise<Response>
  /** Each message that comes, before the SDK has it. */
  onmessage?(message: object): void
  /** Each notification that no request of the client's own has claimed. */
  onnotification?(notification: Notification): void
}

export interface CallOptions {
  onprogress?(progress: { progress: number; total?: number | undefined }): void
  onresumptiontoken?(eventId: string): void
  signal?: AbortSignal
  timeout?: number
}

export interface ToolResult {
  content?: unknown
  isError?: unknown
}

/** What the two lines' clients do, in words of one syllable: results are cut down to what tests look at. */
export interface ClientCalls {
  sessionId(): string | undefined
  serverName(): string | undefined
  ping(): Promise<void>
  /** Names. */
  tools(): Promise<string[]>
  callTool(tool: string, args: Record<string, unknown>, options: CallOptions): Promise<ToolResult>
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

/** What of the two lines' clients is alike; results are wider than what is used of them. */
export interface SdkClient {
  getServerVersion(): { name: string } | undefined
  ping(): Promise<unknown>
  listTools(): Promise<{ tools: { name: string }[] }>
  listResources(): Promise<{ resources: { uri: string }[] }>
  listResourceTemplates(): Promise<{ resourceTemplates: { uriTemplate: string }[] }>
  readResource(params: { uri: string }): Promise<{ contents: ({ text: string } | { blob: string })[] }>
  subscribeResource(params: { uri: string }): Promise<unknown>
  unsubscribeResource(params: { uri: string }): Promise<unknown>
  listPrompts(): Promise<{ prompts: { name: string }[] }>
  getPrompt(params: {
    name: string
    arguments: Record<string, string>
  }): Promise<{ messages: { content: { type: string; text?: unknown } }[] }>
  complete(params: {
    ref: { type: 'ref/prompt'; name: string }
    argument: { name: string; value: string }
  }): Promise<{ completion: { values: string[] } }>
  setLoggingLevel(level: 'debug' | 'info' | 'warning' | 'error'): Promise<unknown>
  sendRootsListChanged(): Promise<void>
  close(): Promise<void>
}

export function callsOf(
  client: SdkClient,
  transport: { readonly sessionId?: string | undefined; terminateSession(): Promise<void> },
  callTool: ClientCalls['callTool'],
): ClientCalls {
  return {
    callTool,
    sessionId: () => transport.sessionId,
    serverName: () => client.getServerVersion()?.name,
    ping: async () => void (await client.ping()),
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    resources: async () => (await client.listResources()).resources.map(({ uri }) => uri),
    templates: async () =>
      (await client.listResourceTemplates()).resourceTemplates.map((template) => template.uriTemplate),
    read: async (uri) => {
      const [content] = (await client.readResource({ uri })).contents
      return content === undefined ? '' : 'text' in content ? content.text : content.blob
    },
    subscribe: async (uri) => void (await client.subscribeResource({ uri })),
    unsubscribe: async (uri) => void (await client.unsubscribeResource({ uri })),
    prompts: async () => (await client.listPrompts()).prompts.map(({ name }) => name),
    prompt: async (name, args = {}) =>
      String((await client.getPrompt({ name, arguments: args })).messages[0]?.content.text ?? ''),
    complete: async (name, argument, value) =>
      (await client.complete({ ref: { type: 'ref/prompt', name }, argument: { name: argument, value } })).completion
        .values,
    setLevel: async (level) => void (await client.setLoggingLevel(level)),
    rootsChanged: () => client.sendRootsListChanged(),
    terminate: () => transport.terminateSession(),
    close: () => client.close(),
  }
}

/** To be called when the transport is connected. */
export function listen(
  transport: { onmessage?: ((message: never, ...rest: never[]) => void) | undefined },
  { onmessage }: ClientParts,
): void {
  const pass = transport.onmessage as ((...all: unknown[]) => void) | undefined
  if (!onmessage) return
  transport.onmessage = (message: object, ...rest: unknown[]) => {
    onmessage(message)
    pass?.(message, ...rest)
  }
}

/** Clients reconnect at once and do not give up while a test restarts a server. */
export const RECONNECTION = {
  initialReconnectionDelay: 50,
  maxReconnectionDelay: 200,
  reconnectionDelayGrowFactor: 1.5,
  maxRetries: 1000,
}
