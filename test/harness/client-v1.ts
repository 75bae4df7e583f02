import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { type ClientCalls, type ClientParts, RECONNECTION, textOf } from './client.js'

/** {@link connectClient} on SDK line 1. */
export async function connectV1(parts: ClientParts): Promise<ClientCalls> {
  const { handlers, wire } = parts
  const client = new Client(
    { name: parts.name, version: '1.0.0' },
    {
      capabilities: {
        ...(handlers.sampling && { sampling: {} }),
        ...(handlers.elicitation && { elicitation: {} }),
        ...(handlers.roots && { roots: { listChanged: true } }),
      },
    },
  )
  const { sampling, elicitation, roots } = handlers
  if (sampling) {
    client.setRequestHandler(CreateMessageRequestSchema, async ({ params }, { sendNotification }) => {
      const [block] = [params.messages[0]?.content].flat()
      const progressToken = params._meta?.progressToken
      const report = async (progress: number) => {
        if (progressToken === undefined) return
        await sendNotification({ method: 'notifications/progress', params: { progressToken, progress } })
      }
      const text = await sampling(block?.type === 'text' ? block.text : '', report)
      return { role: 'assistant', content: { type: 'text', text }, model: 'test-model' }
    })
  }
  if (elicitation)
    client.setRequestHandler(ElicitRequestSchema, async ({ params }) => ({ ...(await elicitation(params.message)) }))
  if (roots) client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: roots() }))
  client.fallbackNotificationHandler = async (notification) => parts.notifications.add(notification)

  const transport = new StreamableHTTPClientTransport(parts.url, {
    fetch: wire.fetch,
    requestInit: { headers: parts.headers },
    reconnectionOptions: RECONNECTION,
  })
  // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
  await client.connect(transport as Transport)

  return {
    sessionId: () => transport.sessionId,
    serverName: () => client.getServerVersion()?.name,
    ping: async () => void (await client.ping()),
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    call: async (name, args = {}, options = {}) =>
      textOf(name, await client.callTool({ name, arguments: args }, undefined, options)),
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
    prompt: async (name, args = {}) => {
      const content = (await client.getPrompt({ name, arguments: args })).messages[0]?.content
      return content?.type === 'text' ? content.text : ''
    },
    complete: async (name, argument, value) =>
      (await client.complete({ ref: { type: 'ref/prompt', name }, argument: { name: argument, value } })).completion
        .values,
    setLevel: async (level) => void (await client.setLoggingLevel(level)),
    rootsChanged: () => client.sendRootsListChanged(),
    terminate: () => transport.terminateSession(),
    close: () => client.close(),
  }
}
