// An MCP server on stdio whose tools do to it what tests need done. Argument: stubborn (survives end of stdin and SIGTERM).
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { z } from 'zod'

const server = new McpServer({ name: 'tools', version: '1.0.0' })
const text = (value) => ({ content: [{ type: 'text', text: String(value) }] })

server.registerTool('pid', {}, () => text(process.pid))
server.registerTool('env', {}, () => text(JSON.stringify(process.env)))
server.registerTool('die', {}, () => process.exit(1))
server.registerTool('say', { inputSchema: { text: z.string() } }, (args) => {
  process.stderr.write(`${args.text}\n`)
  return text('said')
})
/** Says so on stderr, and answers when `release` is called, at a SIGUSR2, or when the time is up. */
let release = () => {}
process.on('SIGUSR2', () => release())
server.registerTool('wait', { inputSchema: { ms: z.number() } }, async ({ ms }) => {
  process.stderr.write('waiting\n')
  await new Promise((done) => {
    release = done
    setTimeout(done, ms)
  })
  return text('waited')
})
server.registerTool('release', {}, () => {
  release()
  return text('released')
})

if (process.argv.includes('stubborn')) {
  process.on('SIGTERM', () => {})
  setInterval(() => {}, 1_000)
}

await server.connect(new StdioServerTransport())
