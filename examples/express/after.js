import express from 'express'
import { createSessionHandler } from 'mcp-roam'
import { sqlite } from 'mcp-roam/sqlite'
import { buildServer } from './server.js'

const handler = createSessionHandler(buildServer, { backend: sqlite({ file: 'sessions.db' }) })
const app = express()
app.use(express.json())
app.all('/mcp', handler.node)
app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
