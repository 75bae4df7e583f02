import { randomUUID } from 'node:crypto'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js'
import express from 'express'
import { toEventStore } from 'mcp-roam'
import { sqlite } from 'mcp-roam/sqlite'
import { buildServer } from './server-v1.js'

const app = express()
app.use(express.json())

const backend = sqlite({ file: process.env.EVENTS ?? 'events.db' })
/** @type {Map<string, StreamableHTTPServerTransport>} */
const transports = new Map()

app.post('/mcp', async (req, res) => {
  const sessionId = req.get('mcp-session-id')
  let transport = sessionId === undefined ? undefined : transports.get(sessionId)
  if (!transport) {
    if (sessionId !== undefined || !isInitializeRequest(req.body)) {
      res.status(400).send('Invalid or missing session ID')
      return
    }
    const newId = randomUUID()
    const created = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => newId,
      eventStore: toEventStore(backend, newId),
      onsessioninitialized: (id) => void transports.set(id, created),
    })
    created.onclose = () => transports.delete(created.sessionId ?? '')
    await buildServer().connect(created)
    transport = created
  }
  await transport.handleRequest(req, res, req.body)
})

/** @type {express.RequestHandler} */
const handleSessionRequest = async (req, res) => {
  const transport = transports.get(req.get('mcp-session-id') ?? '')
  if (transport) await transport.handleRequest(req, res)
  else res.status(400).send('Invalid or missing session ID')
}
app.get('/mcp', handleSessionRequest)
app.delete('/mcp', handleSessionRequest)

app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
