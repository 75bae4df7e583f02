/** The server behind the fuzz: each kind of answer, none of which takes long, the same on both SDK lines. */
import { setTimeout as delay } from 'node:timers/promises'
import {
  McpServer as McpServerV1,
  ResourceTemplate as ResourceTemplateV1,
} from '@modelcontextprotocol/sdk/server/mcp.js'
import { SubscribeRequestSchema, UnsubscribeRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { McpServer as McpServerV2, ResourceTemplate as ResourceTemplateV2 } from '@modelcontextprotocol/server'
import { z } from 'zod'
import type { Sdk } from '../harness/server.js'

const INFO = { name: 'fuzz', version: '1' }
const CAPABILITIES = { logging: {}, resources: { subscribe: true } }
const STEPS = { steps: z.int().min(0).max(5), ms: z.int().min(0).max(60) }

const text = (content: string) => ({ content: [{ type: 'text' as const, text: content }] })

async function work(steps: number, ms: number, say: (step: number) => Promise<void>): Promise<void> {
  for (let step = 1; step <= steps; step++) {
    await delay(ms)
    await say(step)
  }
}

/** @param owner Whose session it is; `whoami` says it, so that an answer in the wrong place is seen. */
export function buildServer(sdk: Sdk, owner: () => string | undefined): McpServerV1 | McpServerV2 {
  return sdk === 'v1' ? serverV1(owner) : serverV2(owner)
}

function serverV1(owner: () => string | undefined): McpServerV1 {
  const mcp = new McpServerV1(INFO, { capabilities: CAPABILITIES })
  mcp.registerTool('echo', { inputSchema: { text: z.string() } }, (args) => text(args.text))
  mcp.registerTool('whoami', {}, () => text(String(owner())))
  mcp.registerTool('work', { inputSchema: STEPS }, async ({ steps, ms }, extra) => {
    const progressToken = extra._meta?.progressToken
    await work(steps, ms, (progress) =>
      progressToken === undefined
        ? extra.sendNotification({ method: 'notifications/message', params: { level: 'error', data: owner() } })
        : extra.sendNotification({ method: 'notifications/progress', params: { progressToken, progress } }),
    )
    return text(String(owner()))
  })
  mcp.registerTool('aside', {}, async () => {
    await mcp.sendLoggingMessage({ level: 'error', data: owner() })
    return text('said')
  })
  mcp.registerResource('item', new ResourceTemplateV1('fuzz://{name}', { list: undefined }), {}, (uri) => ({
    contents: [{ uri: uri.href, text: String(owner()) }],
  }))
  mcp.registerPrompt('greet', { argsSchema: { name: z.string() } }, ({ name }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: name } }],
  }))
  for (const schema of [SubscribeRequestSchema, UnsubscribeRequestSchema]) {
    mcp.server.setRequestHandler(schema, () => ({}))
  }
  return mcp
}

function serverV2(owner: () => string | undefined): McpServerV2 {
  const mcp = new McpServerV2(INFO, { capabilities: CAPABILITIES })
  mcp.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, (args) => text(args.text))
  mcp.registerTool('whoami', {}, () => text(String(owner())))
  mcp.registerTool('work', { inputSchema: z.object(STEPS) }, async ({ steps, ms }, ctx) => {
    const progressToken = ctx.mcpReq._meta?.progressToken
    await work(steps, ms, (progress) =>
      progressToken === undefined
        ? ctx.mcpReq.notify({ method: 'notifications/message', params: { level: 'error', data: owner() } })
        : ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress } }),
    )
    return text(String(owner()))
  })
  mcp.registerTool('aside', {}, async () => {
    await mcp.sendLoggingMessage({ level: 'error', data: owner() })
    return text('said')
  })
  mcp.registerResource('item', new ResourceTemplateV2('fuzz://{name}', { list: undefined }), {}, (uri) => ({
    contents: [{ uri: uri.href, text: String(owner()) }],
  }))
  mcp.registerPrompt('greet', { argsSchema: z.object({ name: z.string() }) }, ({ name }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: name } }],
  }))
  for (const method of ['resources/subscribe', 'resources/unsubscribe'] as const) {
    mcp.server.setRequestHandler(method, () => ({}))
  }
  return mcp
}
