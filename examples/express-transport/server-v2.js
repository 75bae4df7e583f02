import { McpServer } from '@modelcontextprotocol/server'

export function buildServer() {
  const server = new McpServer({ name: 'express-transport', version: '1.0.0' })
  server.registerTool('client', { description: 'Says which client this is' }, () => {
    const client = server.server.getClientVersion()
    return { content: [{ type: 'text', text: client ? `${client.name} ${client.version}` : 'unknown' }] }
  })
  return server
}
