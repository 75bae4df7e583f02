import { randomUUID } from 'node:crypto'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import express from 'express'
import { buildServer } from './server.js'

const transports = new Map()
const app = express()
app.use(express.json())
app.all('/mcp', async (req, res) => {
  let transport = transports.get(req.get('mcp-session-id'))
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void transports.set(id, transport),
    })
    await buildServer().connect(transport)
  }
  await transport.handleRequest(req, res, req.body)
})
app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
