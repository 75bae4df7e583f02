/** What the nodes under chaos do: tools of each kind, the same on both SDK lines; each run of one is written down. */
import { setTimeout as delay } from 'node:timers/promises'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { z } from 'zod'
import type { Sdk } from '../harness/server.js'

/** Name of each tool, and whether it may run twice. */
export const TOOLS = {
  short: true,
  short_once: false,
  long: true,
  long_once: false,
  ask: false,
  notify: false,
} as const
export type Tool = keyof typeof TOOLS

/** How long a tool waits for its user, in ms. */
const ASK_PATIENCE = 4000

/** What a tool is told; `key` is the call's own. */
const SHAPE = { key: z.string(), steps: z.int(), ms: z.int() }
export interface Work {
  key: string
  /** How often something is said; each `ms` apart. */
  steps: number
  ms: number
}

/** A line of the ledger. */
export interface Run {
  what: 'begun' | 'ended' | 'aborted'
  tool: Tool
  key: string
  pid: number
}

/** What a tool can do, on either line. */
interface Desk {
  signal: AbortSignal
  progress(step: number, total: number): Promise<void>
  /** On the call's own stream, or on the session's. */
  log(data: string, aside: boolean): Promise<void>
  ask(message: string, timeout: number): Promise<{ action: string; content?: unknown }>
}

async function work(tool: Tool, { key, steps, ms }: Work, desk: Desk): Promise<string> {
  switch (tool) {
    case 'short':
    case 'short_once':
      return key
    case 'long':
    case 'long_once':
      for (let step = 1; step <= steps; step++) {
        await delay(ms, undefined, { signal: desk.signal })
        await desk.progress(step, steps)
      }
      return key
    case 'notify':
      for (let step = 1; step <= steps; step++) {
        await delay(ms, undefined, { signal: desk.signal })
        await desk.log(`${key} own ${step}`, false)
        await desk.log(`${key} aside ${step}`, true)
      }
      return key
    case 'ask':
      try {
        const { content } = await desk.ask(key, ASK_PATIENCE)
        return (content as { username?: string } | undefined)?.username ?? ''
      } catch {
        return `unanswered ${key}`
      }
  }
}

const ELICITED = {
  type: 'object' as const,
  properties: { username: { type: 'string' as const }, email: { type: 'string' as const } },
  required: ['username', 'email'],
}

/** @param note Told of each run, before it does anything, and of its end. */
export function buildServer(sdk: Sdk, note: (what: Run['what'], tool: Tool, key: string) => void) {
  const written = async (tool: Tool, args: Work, desk: Desk) => {
    note('begun', tool, args.key)
    try {
      return await work(tool, args, desk)
    } finally {
      note(desk.signal.aborted ? 'aborted' : 'ended', tool, args.key)
    }
  }
  const info = { name: 'chaos', version: '1' }
  const capabilities = { tools: {}, logging: {} }
  const told = (text: string) => ({ content: [{ type: 'text' as const, text: `${text} ${process.pid}` }] })
  if (sdk === 'v1') {
    const mcp = new McpServerV1(info, { capabilities })
    for (const [tool, safe] of Object.entries(TOOLS) as [Tool, boolean][]) {
      const config = { inputSchema: SHAPE, annotations: { idempotentHint: safe } }
      mcp.registerTool(tool, config, async (args, extra) => {
        return told(
          await written(tool, args, {
            signal: extra.signal,
            async progress(progress, total) {
              const progressToken = extra._meta?.progressToken
              if (progressToken === undefined) return
              await extra.sendNotification({
                method: 'notifications/progress',
                params: { progressToken, progress, total },
              })
            },
            async log(data, aside) {
              const message = { method: 'notifications/message' as const, params: { level: 'error' as const, data } }
              if (aside) await mcp.server.notification(message)
              else await extra.sendNotification(message)
            },
            ask: (message, timeout) =>
              mcp.server.elicitInput(
                { message, requestedSchema: ELICITED },
                { relatedRequestId: extra.requestId, timeout },
              ),
          }),
        )
      })
    }
    return mcp
  }
  const mcp = new McpServerV2(info, { capabilities })
  for (const [tool, safe] of Object.entries(TOOLS) as [Tool, boolean][]) {
    const config = { inputSchema: z.object(SHAPE), annotations: { idempotentHint: safe } }
    mcp.registerTool(tool, config, async (args, ctx) => {
      return told(
        await written(tool, args, {
          signal: ctx.mcpReq.signal,
          async progress(progress, total) {
            const progressToken = ctx.mcpReq._meta?.progressToken
            if (progressToken === undefined) return
            await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total } })
          },
          async log(data, aside) {
            const message = { method: 'notifications/message' as const, params: { level: 'error' as const, data } }
            if (aside) await mcp.server.notification(message)
            else await ctx.mcpReq.notify(message)
          },
          ask: (message, timeout) =>
            ctx.mcpReq.elicitInput(
              { message, requestedSchema: ELICITED },
              { relatedRequestId: ctx.mcpReq.id, timeout },
            ),
        }),
      )
    })
  }
  return mcp
}
