/** Takes the journeys that ARCHITECTURE.md describes, on two nodes, and prints the files that each passed, in order. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { instrument } from './instrument.mjs'

const folder = mkdtempSync(join(tmpdir(), 'journeys-'))
instrument(fileURLToPath(new URL('../../../dist', import.meta.url)), folder)
const { createSessionHandler } = await import(pathToFileURL(join(folder, 'index.js')).href)
const { memory } = await import(pathToFileURL(join(folder, 'backend/memory.js')).href)

const VERSION = '2025-11-25'
/** Calls that wait for their answer, by name. @type {Map<string, () => void>} */
const waiting = new Map()

/** A server that answers `quick` at once and anything else when it is told to, and asks its client for `ask`. */
function server() {
  let asks = 0
  return {
    async connect(transport) {
      transport.onmessage = async (message) => {
        const respond = (result) => transport.send({ jsonrpc: '2.0', id: message.id, result })
        if (message.method === 'initialize') {
          return respond({ protocolVersion: VERSION, capabilities: {}, serverInfo: { name: 'journeys', version: '1' } })
        }
        if (message.method === undefined) return waiting.get('ask')?.()
        if (message.id === undefined) return
        const { name } = message.params ?? {}
        if (name === 'quick') return respond({})
        const answered = new Promise((resolve) => waiting.set(name, () => resolve(undefined)))
        const related = { relatedRequestId: message.id }
        const question = { jsonrpc: '2.0', id: asks++, method: 'elicitation/create', params: {} }
        const note = { jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data: name } }
        await transport.send(name === 'ask' ? question : note, related)
        await answered
        await respond({})
      }
      await transport.start()
    },
    async close() {},
  }
}

const backend = memory()
const [a, b] = [1, 2].map(() => createSessionHandler(server, { backend }))
let session

function request(method, body, headers = {}) {
  return new Request('http://localhost/mcp', {
    method,
    headers: {
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      ...(session && { 'mcp-session-id': session, 'mcp-protocol-version': VERSION }),
      ...headers,
    },
    ...(body && { body: JSON.stringify({ jsonrpc: '2.0', ...body }) }),
  })
}
const call = (node, id, name) => node.fetch(request('POST', { id, method: 'tools/call', params: { name } }))

/** Reads a stream until a text has come. */
async function until(reader, text) {
  let read = ''
  while (!read.includes(text)) {
    const { value, done } = await reader.read()
    if (done) throw new Error(`the stream ended before ${text}: ${read}`)
    read += new TextDecoder().decode(value)
  }
  return read
}

/** @type {Record<string, string[]>} */
const journeys = {}
async function journey(name, take) {
  // what the one before it has left to do
  await new Promise((resolve) => setTimeout(resolve, 50))
  const files = new Set()
  globalThis.visited = (file) => files.add(file)
  await take()
  globalThis.visited = undefined
  journeys[name] = [...files]
}

const client = { protocolVersion: VERSION, capabilities: { elicitation: {} }, clientInfo: { name: 'c', version: '1' } }
const initialized = await a.fetch(request('POST', { id: 0, method: 'initialize', params: client }))
session = initialized.headers.get('mcp-session-id')
await initialized.text()
await a.fetch(request('POST', { method: 'notifications/initialized' }))

await journey('A call', async () => (await call(a, 1, 'quick')).text())
await journey('A restore', async () => (await call(b, 2, 'quick')).text())

const streamed = await call(a, 3, 'slow')
const reader = streamed.body.getReader()
const lastEventId = /id: (\S+)\nevent: message/.exec(await until(reader, '"slow"'))[1]
await reader.cancel()
await journey('A resume on another node', async () => {
  const resumed = await b.fetch(request('GET', undefined, { 'last-event-id': lastEventId }))
  const rest = resumed.body.getReader()
  await until(rest, 'id: ')
  waiting.get('slow')()
  await until(rest, '"result"')
})

const asking = await call(a, 4, 'ask')
const id = /"id":"([^"]+)"/.exec(await until(asking.body.getReader(), 'elicitation/create'))?.[1]
if (!id) throw new Error('the question has no id')
await journey('A reply that lands elsewhere', async () => {
  const accepted = await b.fetch(request('POST', { id, result: { action: 'accept' } }))
  if (accepted.status !== 202) throw new Error(`the reply was answered by ${accepted.status}`)
})

console.log(JSON.stringify(journeys))
rmSync(folder, { recursive: true })
process.exit(0)
