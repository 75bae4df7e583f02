/** The server under test, in both SDK lines: one tool that returns its argument. */
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { z } from 'zod'

export type Line = 'v1' | 'v2'

const INFO = { name: 'echo', version: '1.0.0' }

function echo({ text }: { text: string }) {
  return { content: [{ type: 'text' as const, text }] }
}

export function echoV1(): McpServerV1 {
  const server = new McpServerV1(INFO)
  server.registerTool('echo', { inputSchema: { text: z.string() } }, echo)
  return server
}

export function echoV2(): McpServerV2 {
  const server = new McpServerV2(INFO)
  server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, echo)
  return server
}
