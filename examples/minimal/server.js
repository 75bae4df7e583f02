// An MCP server whose sessions survive its restarts. Run it, connect a client to http://127.0.0.1:3000/mcp, kill it, run it again.
import { createServer } from 'node:http'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { createSessionHandler, currentSession } from 'mcp-roam'
import { sqlite } from 'mcp-roam/sqlite'

function buildServer() {
  const server = new McpServer({ name: 'minimal', version: '1.0.0' })
  server.registerTool('visit', { description: 'Counts its calls in this session' }, async () => {
    const visits = await currentSession().state.update('visits', (count) => Number(count ?? 0) + 1)
    return { content: [{ type: 'text', text: `visit ${visits}` }] }
  })
  return server
}

const handler = createSessionHandler(buildServer, {
  backend: sqlite({ file: process.env.SESSIONS ?? 'sessions.db' }),
})
const http = createServer(handler.node).listen(Number(process.env.PORT ?? 3000), '127.0.0.1')

async function stop() {
  await handler.drain()
  http.close()
  await handler.close()
}
process.once('SIGTERM', stop)
process.once('SIGINT', stop)
