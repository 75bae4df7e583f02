import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'

export function buildServer() {
  const server = new McpServer({ name: 'hello', version: '1.0.0' })
  server.registerTool('hello', { description: 'Greets' }, async () => ({ content: [{ type: 'text', text: 'Hello' }] }))
  return server
}
