/** Clients of both SDK lines, of several ages, and mcp-remote, which stands between such a client and the endpoint. */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import * as v2 from '@modelcontextprotocol/client'
import * as newest from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import * as newestHttp from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import * as newestTypes from '@modelcontextprotocol/sdk/types.js'
import * as old from 'sdk-1-10/client/index.js'
import * as oldHttp from 'sdk-1-10/client/streamableHttp.js'
import * as oldTypes from 'sdk-1-10/types.js'
import * as middle from 'sdk-1-20/client/index.js'
import * as middleHttp from 'sdk-1-20/client/streamableHttp.js'
import * as middleTypes from 'sdk-1-20/types.js'
import { discard, scratch } from '../services/children.js'
import { type Connected, type Ears, type RealClient, textOf } from './client.js'

/** What is alike in all of them; their own types do not fit each other. */
interface Client {
  connect(transport: unknown): Promise<void>
  callTool(params: { name: string; arguments: Record<string, unknown> }): Promise<unknown>
  setRequestHandler(which: unknown, answer: (request: { params: Params }) => Promise<object>): void
  fallbackNotificationHandler?: (notification: { method: string; params?: Record<string, unknown> }) => Promise<void>
  close(): Promise<void>
}

interface Params {
  message?: string
  messages?: { content: { text?: string } }[]
}

interface Package {
  Client: new (info: { name: string; version: string }, options: { capabilities: object }) => Client
  StreamableHTTPClientTransport: new (url: URL) => unknown
  /** How `setRequestHandler` is told which request is meant. */
  elicitation?: unknown
  sampling?: unknown
}

const V1_10 = {
  ...old,
  ...oldHttp,
  sampling: oldTypes.CreateMessageRequestSchema,
} as unknown as Package
const V1_20 = { ...middle, ...middleHttp, elicitation: middleTypes.ElicitRequestSchema } as unknown as Package
const V1 = { ...newest, ...newestHttp, elicitation: newestTypes.ElicitRequestSchema } as unknown as Package
const V2 = { ...v2, elicitation: 'elicitation/create' } as unknown as Package

async function connect({ Client, elicitation, sampling }: Package, transport: unknown, ears: Ears): Promise<Connected> {
  const capabilities = {
    ...(elicitation !== undefined && { elicitation: {} }),
    ...(sampling !== undefined && { sampling: {} }),
  }
  const client = new Client({ name: 'real-client', version: '1.0.0' }, { capabilities })
  if (elicitation !== undefined)
    client.setRequestHandler(elicitation, async ({ params }) => ({ ...(await ears.asked(params.message ?? '')) }))
  if (sampling !== undefined) {
    client.setRequestHandler(sampling, async ({ params }) => {
      const { content } = await ears.asked(params.messages?.[0]?.content.text ?? '')
      return { role: 'assistant', content: { type: 'text', text: content?.username }, model: 'none' }
    })
  }
  client.fallbackNotificationHandler = async ({ method, params }) => ears.heard(method, params)
  await client.connect(transport)
  return {
    call: async (name, args = {}) => textOf(await client.callTool({ name, arguments: args })),
    close: () => client.close(),
  }
}

const overHttp = (sdk: Package) => (url: string, ears: Ears) =>
  connect(sdk, new sdk.StreamableHTTPClientTransport(new URL(url)), ears)

/** A stdio server to its client, a client of Streamable HTTP to the endpoint. */
async function throughMcpRemote(url: string, ears: Ears): Promise<Connected> {
  const folder = scratch()
  const program = join(dirname(createRequire(import.meta.url).resolve('mcp-remote/package.json')), 'dist/proxy.js')
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [program, url, '--allow-http', '--transport', 'http-only'],
    env: { MCP_REMOTE_CONFIG_DIR: folder },
    stderr: 'ignore',
  })
  const { call, close } = await connect(V1, transport, ears)
  return {
    call,
    async close() {
      await close()
      discard(folder)
    },
  }
}

const SAME = { question: 'ask', passesNotifications: true } as const

export const SDK_CLIENTS: readonly RealClient[] = [
  {
    name: '`@modelcontextprotocol/sdk` 1.10',
    revision: '2024-11-05',
    connect: overHttp(V1_10),
    ...SAME,
    question: 'sample',
    unfinished: { drain: 'outcome-unknown', kill: 'own timeout' },
  },
  {
    name: '`@modelcontextprotocol/sdk` 1.20',
    revision: '2025-06-18',
    connect: overHttp(V1_20),
    ...SAME,
    unfinished: { drain: 'outcome-unknown', kill: 'own timeout' },
  },
  {
    name: '`@modelcontextprotocol/sdk` 1, the newest',
    revision: '2025-11-25',
    connect: overHttp(V1),
    ...SAME,
    unfinished: { drain: 'outcome-unknown', kill: 'outcome-unknown' },
  },
  {
    name: '`@modelcontextprotocol/client` 2',
    revision: '2025-11-25',
    connect: overHttp(V2),
    ...SAME,
    unfinished: { drain: 'outcome-unknown', kill: 'outcome-unknown' },
  },
  {
    name: '`mcp-remote`',
    revision: '2025-11-25',
    connect: throughMcpRemote,
    ...SAME,
    unfinished: { drain: 'outcome-unknown', kill: 'outcome-unknown' },
  },
]
