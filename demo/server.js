// The server that the demo kills: an McpServer as anyone would write it, behind mcp-roam. It ends when its stdin does.
import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { createSessionHandler, currentSession } from 'mcp-roam'
import { memory } from 'mcp-roam/memory'
import { sqlite } from 'mcp-roam/sqlite'

const [port, backend] = process.argv.slice(2)

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
      const params = { progressToken: _meta?.progressToken, progress, total: 4 }
      await sendNotification({ method: 'notifications/progress', params })
    }
    return text(process.pid)
  })
  return server
}

const handler = createSessionHandler(buildServer, {
  backend: backend === 'memory:' ? memory() : sqlite({ file: backend.replace(/^sqlite:/, '') }),
})

const http = createServer(handler.node).listen(Number(port), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${http.address().port}/mcp`)
})
process.stdin.on('end', () => process.exit()).resume()
