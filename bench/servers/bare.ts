/** What node:http can do by itself: parse the body, write an echo, no MCP server behind it. */
import type { RequestListener } from 'node:http'
import { readJson, writeJson } from './json.js'

interface Call {
  id?: number
  params?: { arguments?: { text?: string } }
}

export const bare: RequestListener = async (req, res) => {
  const { id, params } = (await readJson(req)) as Call
  if (id === undefined) return void res.writeHead(202).end()
  const content = [{ type: 'text', text: params?.arguments?.text }]
  writeJson(res, { jsonrpc: '2.0', id, result: { content } }, 'none')
}
