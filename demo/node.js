// A node of the demo: an McpServer as anyone would write it, behind mcp-roam. It ends when its stdin does.
import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { createSessionHandler, currentSession } from 'mcp-roam'

function buildServer() {
  const server = new McpServer({ name: 'demo', version: '1.0.0' })
  const text = (value) => ({ content: [{ type: 'text', text: String(value) }] })

  server.registerTool('count', { description: 'Counts its calls in this session' }, async () =>
    text(await currentSession().state.update('calls', (calls = 0) => calls + 1)),
  )
  server.registerTool('counted', { description: 'How many calls were counted in this session' }, async () =>
    text((await currentSession().state.get('calls')) ?? 0),
  )
  const survey = { description: 'Takes its time and changes nothing', annotations: { readOnlyHint: true } }
  server.registerTool('survey', survey, async ({ _meta, sendNotification }) => {
    for (let progress = 1; progress <= 4; progress++) {
      await delay(300)
      const params = { progressToken: _meta?.progressToken, progress, total: 4, message: String(process.pid) }
      await sendNotification({ method: 'notifications/progress', params })
    }
    return text(process.pid)
  })
  return server
}

// Beside what else is there, for somebody's server may be in use.
async function open(url) {
  const [scheme] = url.split(':', 1)
  switch (scheme) {
    case 'memory':
      return (await import('mcp-roam/memory')).memory()
    case 'sqlite':
      return (await import('mcp-roam/sqlite')).sqlite({ file: url.slice('sqlite:'.length) })
    case 'redis':
    case 'rediss':
    case 'valkey':
      return (await import('mcp-roam/redis')).redis({ url: url.replace(/^valkey/, 'redis'), prefix: 'mcp-roam-demo' })
    case 'postgres':
    case 'postgresql':
      return (await import('mcp-roam/postgres')).postgres({ url, schema: 'mcp_roam_demo' })
    default:
      throw new Error('--backend must be sqlite:<file>, redis://<host>, postgres://<host>/<database> or memory:')
  }
}

try {
  const backend = await open(process.argv[2])
  await backend.ping?.()
  const handler = createSessionHandler(buildServer, { backend })
  const http = createServer(handler.node).listen(0, '127.0.0.1', () => {
    console.log(`http://127.0.0.1:${http.address().port}`)
  })
} catch (error) {
  console.error(`  ${error.message || error.code}`)
  process.exit(1)
}
process.stdin.on('end', () => process.exit()).resume()
