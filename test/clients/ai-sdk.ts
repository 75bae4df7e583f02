/** Clients of the AI SDK, which have a transport of their own. */
import * as newest from '@ai-sdk/mcp'
import * as v1 from 'ai-sdk-mcp-1'
import { type Connected, type Ears, type RealClient, textOf } from './client.js'

/** What is alike in both; their own types do not fit each other. */
interface AiSdk {
  createMCPClient(config: {
    transport: { type: 'http'; url: string }
    capabilities: object
    onUncaughtError(error: unknown): void
  }): Promise<{
    tools(): Promise<Record<string, { execute(args: object, options: object): Promise<unknown> }>>
    onElicitationRequest(schema: unknown, answer: (request: { params: { message: string } }) => Promise<object>): void
    close(): Promise<void>
  }>
  ElicitationRequestSchema: unknown
}

const overHttp =
  (sdk: unknown) =>
  async (url: string, ears: Ears): Promise<Connected> => {
    const { createMCPClient, ElicitationRequestSchema } = sdk as AiSdk
    const client = await createMCPClient({
      transport: { type: 'http', url },
      capabilities: { elicitation: {} },
      // Connections that break, and notifications, which it does not know.
      onUncaughtError() {},
    })
    client.onElicitationRequest(ElicitationRequestSchema, async ({ params }) => ({
      ...(await ears.asked(params.message)),
    }))
    const tools = await client.tools()
    return {
      call: async (name, args = {}) => textOf(await tools[name]?.execute(args, { toolCallId: name, messages: [] })),
      close: () => client.close(),
    }
  }

const SAME = {
  revision: '2025-11-25',
  question: 'ask',
  passesNotifications: false,
  unfinished: { drain: 'outcome-unknown', kill: 'own timeout' },
} as const

export const AI_SDK_CLIENTS: readonly RealClient[] = [
  { name: '`@ai-sdk/mcp` 1.0', connect: overHttp(v1), ...SAME },
  { name: '`@ai-sdk/mcp` 2', connect: overHttp(newest), ...SAME },
]
