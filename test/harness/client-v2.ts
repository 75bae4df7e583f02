import { Client, ClientCredentialsProvider, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { type ClientCalls, type ClientParts, callsOf, listen, RECONNECTION } from './client-parts.js'

/** {@link connectClient} on SDK line 2. */
export async function connectV2(parts: ClientParts): Promise<ClientCalls> {
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
    client.setRequestHandler('sampling/createMessage', async ({ params }, { mcpReq }) => {
      const [block] = [params.messages[0]?.content].flat()
      const progressToken = params._meta?.progressToken
      const report = async (progress: number) => {
        if (progressToken === undefined) return
        await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress } })
      }
      const text = await sampling(block?.type === 'text' ? block.text : '', report)
      return { role: 'assistant', content: { type: 'text', text }, model: 'test-model' }
    })
  }
  if (elicitation)
    client.setRequestHandler('elicitation/create', async ({ params }) => ({ ...(await elicitation(params.message)) }))
  if (roots) client.setRequestHandler('roots/list', () => ({ roots: roots() }))
  client.fallbackNotificationHandler = async (notification) => parts.onnotification?.(notification)

  const transport = new StreamableHTTPClientTransport(parts.url, {
    fetch: parts.fetch,
    requestInit: { headers: parts.headers ?? {} },
    ...(parts.credentials && { authProvider: new ClientCredentialsProvider(parts.credentials) }),
    reconnectionOptions: RECONNECTION,
  })
  await client.connect(transport)
  listen(transport, parts)
  return callsOf(client, transport, (name, args, options) => client.callTool({ name, arguments: args }, options))
}
