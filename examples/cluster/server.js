// One node of a cluster: sessions in Redis, readiness for a load balancer, and a stop that loses nothing.
// PORT (3000), REDIS_URL, and DRAIN_NOTICE: ms between saying "not ready" and refusing requests (0).
import { createServer } from 'node:http'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { createSessionHandler, currentSession } from 'mcp-roam'
import { redis } from 'mcp-roam/redis'

const { PORT = '3000', REDIS_URL = 'redis://127.0.0.1:6379', DRAIN_NOTICE = '0' } = process.env

function buildServer() {
  const server = new McpServer({ name: 'cluster', version: '1.0.0' })
  server.registerTool(
    'visit',
    { description: 'Counts its calls in this session, and says which node answered' },
    async () => {
      const visits = await currentSession().state.update('visits', (count) => Number(count ?? 0) + 1)
      return { content: [{ type: 'text', text: `visit ${visits}, node ${handler.nodeId}` }] }
    },
  )
  return server
}

const handler = createSessionHandler(buildServer, {
  backend: redis({ url: REDIS_URL }),
  onerror: (error) => console.error(error),
})

const http = createServer(async (req, res) => {
  const path = req.url?.split('?', 1)[0]
  if (path === '/mcp') return handler.node(req, res)
  if (path === '/livez') return res.end('alive\n')
  if (path === '/readyz') {
    const status = await handler.status()
    return res.writeHead(status.ready ? 200 : 503, { 'content-type': 'application/json' }).end(JSON.stringify(status))
  }
  res.writeHead(404).end()
})

async function stop() {
  await handler.drain({ notice: Number(DRAIN_NOTICE) })
  http.close()
  await handler.close()
  http.closeAllConnections()
}
process.once('SIGTERM', stop)
process.once('SIGINT', stop)

// longer than a proxy keeps an idle connection (nginx, ALB: 60 s): it must not find one closed under its request
http.keepAliveTimeout = 75_000
http.listen(Number(PORT), () => console.log(`node ${handler.nodeId} listens on ${PORT}`))
