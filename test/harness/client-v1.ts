import { ClientCredentialsProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { type ClientCalls, type ClientParts, callsOf, listen, RECONNECTION, type ToolResult } from './client-parts.js'

/** {@link connectClient} on SDK line 1. */
export async function connectV1(parts: ClientParts): Promise<ClientCalls> {
  const { handlers } = parts
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
  client.fallbackNotificationHandler = async (notification) => parts.onnotification?.(notification)

  const transport = new StreamableHTTPClientTransport(parts.url, {
    fetch: parts.fetch,
    requestInit: { headers: parts.headers ?? {} },
    ...(parts.credentials && { authProvider: new ClientCredentialsProvider(parts.credentials) }),
    reconnectionOptions: RECONNECTION,
  })
  // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
  await client.connect(transport as Transport)
  listen(transport, parts)
  const callTool: ClientCalls['callTool'] = async (name, args, options) =>
    (await client.callTool({ name, arguments: args }, undefined, options)) as ToolResult
  return callsOf(client, transport, callTool)
}
