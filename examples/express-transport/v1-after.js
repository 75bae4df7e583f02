import { randomUUID } from 'node:crypto'
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js'
import express from 'express'
import { SessionTransport } from 'mcp-roam'
import { sqlite } from 'mcp-roam/sqlite'
import { buildServer } from './server-v1.js'

const app = express()
app.use(express.json())

const backend = sqlite({ file: process.env.SESSIONS ?? 'sessions.db' })
/** @type {Map<string, SessionTransport>} */
const transports = new Map()

app.all('/mcp', async (req, res) => {
  const sessionId = isInitializeRequest(req.body) ? undefined : req.get('mcp-session-id')
  let transport = sessionId === undefined ? undefined : transports.get(sessionId)
  if (!transport) {
    if (sessionId === undefined && !isInitializeRequest(req.body)) {
      res.status(400).send('Invalid or missing session ID')
      return
    }
    const created = new SessionTransport({
      backend,
      sessionId,
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (id) => void transports.set(id, created),
    })
    // before anything is awaited, so that the next request finds it
    if (sessionId !== undefined) transports.set(sessionId, created)
    created.onclose = () => transports.delete(created.sessionId ?? '')
    await buildServer().connect(created)
    transport = created
  }
  await transport.handleRequest(req, res, req.body)
})

app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
