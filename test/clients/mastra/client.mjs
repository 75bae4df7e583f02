/** One client of Mastra: the package that is named first, at the URL that is named second. How it talks to its parent: ../mastra.ts. */
const [line, url] = process.argv.slice(2)
const { MCPClient } = await import(line)

const SERVER = 'cluster'
const answers = new Map()

const ask = (message) =>
  new Promise((resolve) => {
    const question = answers.size
    answers.set(question, resolve)
    process.send({ question, message })
  })

const mcp = new MCPClient({
  servers: {
    [SERVER]: {
      url: new URL(url),
      // Its own log comes here, too.
      logger({ message, details }) {
        if (message.includes('[MCP SERVER LOG]')) process.send({ heard: 'notifications/message', params: details })
      },
      inputRequests: ({ params }) => ask(params.message),
    },
  },
})
// what line 1 has instead of `inputRequests`
await mcp.elicitation?.onRequest(SERVER, ({ message }) => ask(message))
const tools = await mcp.listTools()
// Line 2 rejects for a server of sessions, and calls all the same.
await mcp.tools.onListChanged(SERVER, () => process.send({ heard: 'notifications/tools/list_changed' })).catch(() => {})

process.on('message', async ({ call, tool, args, question, answer }) => {
  if (question !== undefined) {
    answers.get(question)?.(answer)
    return
  }
  try {
    process.send({ call, result: await tools[`${SERVER}_${tool}`].execute(args, {}) })
  } catch (error) {
    process.send({ call, error: String(error) })
  }
})
// also when the parent was killed
process.once('disconnect', () => mcp.disconnect().finally(() => process.exit()))
process.send({ ready: true })
