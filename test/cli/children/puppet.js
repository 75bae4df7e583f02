// A stdio server that does what its requests say. Arguments: deaf (reads nothing), stubborn (survives end of stdin and SIGTERM).
import { createInterface } from 'node:readline'

const traits = new Set(process.argv.slice(2))
const write = (text) => process.stdout.write(text)
const send = (message) => write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)

const methods = {
  echo: (params) => params,
  env: () => process.env,
  about: () => ({ pid: process.pid, cwd: process.cwd(), args: process.argv.slice(2) }),
  /** Writes pieces, each base64 of bytes, one after the other has left, and then answers. */
  write: async ({ pieces }) => {
    for (const piece of pieces) {
      await new Promise((done) => process.stdout.write(Buffer.from(piece, 'base64'), done))
      await new Promise((done) => setTimeout(done, 5))
    }
    return {}
  },
  /** Sends messages of its own before it answers. */
  send: ({ messages }) => {
    for (const message of messages) send(message)
    return {}
  },
  complain: ({ text }) => {
    process.stderr.write(text)
    return {}
  },
  exit: ({ code }) => process.exit(code),
  closeStdout: () => {
    process.stdout.end()
    setInterval(() => {}, 1_000)
  },
  ping: () => undefined,
  /** Never answers. */
  hang: () => undefined,
}

if (traits.has('stubborn')) {
  process.on('SIGTERM', () => process.stderr.write('SIGTERM\n'))
  setInterval(() => {}, 1_000)
}

if (traits.has('deaf')) {
  setInterval(() => {}, 1_000)
  send({ method: 'notifications/message', params: { data: 'up' } })
} else {
  const input = createInterface({ input: process.stdin })
  input.on('line', async (line) => {
    const { id, method, params } = JSON.parse(line)
    if (method === undefined || id === undefined) {
      send({ method: 'notifications/received', params: { line } })
      return
    }
    const result = await methods[method](params)
    if (result !== undefined) send({ id, result })
  })
  input.on('close', () => process.stderr.write('end of stdin\n'))
}
