/** Bodies: their size, their encoding, and those that something in front has parsed already. */
import type net from 'node:net'
import express, { type RequestHandler } from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import { describe, expect, onTestFinished, test } from 'vitest'
import { DOORS, fetchDoor, listen, nodeDoor, type Sent } from '../harness/door.js'
import { within } from '../harness/within.js'
import { connection } from './connection.js'
import { expectRefusal } from './refusal.js'
import { request, type Stage, stage } from './stage.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('size of a body', () => {
    const LIMIT = 1000
    const sized = (size: number) => {
      const empty = JSON.stringify(request(1, 'echo', { params: { x: '' } }))
      return JSON.stringify(request(1, 'echo', { params: { x: 'x'.repeat(size - empty.length) } }))
    }
    const halves = (text: string) => [text.slice(0, 400), text.slice(400)]

    test.each([
      ['declared', (text: string) => ({ body: text })],
      ['streamed', (text: string) => ({ chunks: halves(text) })],
      ['counted in bytes', (text: string) => ({ body: text.replaceAll('xx', 'é') })],
    ] as [string, (text: string) => Sent][])(
      '%s: exactly the limit is served, one byte more is not',
      async (_, sent) => {
        const at = await stage(name, { maxBodySize: LIMIT })
        const client = await at.session()
        const exact = sized(LIMIT)
        expect(Buffer.byteLength(exact)).toBe(LIMIT)
        expect((await client.send(sent(exact))).status).toBe(200)
        expectRefusal(await client.send(sent(sized(LIMIT + 1).replace('"id":1', '"id":2'))), 413, -32000, null)
        expect((await client.post(request(3))).status).toBe(200)
      },
    )

    test('declared over the limit: refused before it is read', async () => {
      const at = await stage(name, { maxBodySize: LIMIT })
      const client = await at.session()
      const headers = { accept: '*/*', 'content-type': 'application/json', 'mcp-session-id': client.sessionId }
      const declared = { ...headers, 'content-length': String(LIMIT + 1) }
      if (name === 'fetch') {
        let read = false
        const body = new ReadableStream(
          {
            pull() {
              read = true
              return new Promise(() => {})
            },
          },
          { highWaterMark: 0 },
        )
        const init = { method: 'POST', headers: declared, body, duplex: 'half' }
        const response = await within(at.handler.fetch(new Request('http://x/mcp', init as RequestInit)), 'an answer')
        expect(response.status).toBe(413)
        expect(read).toBe(false)
        return
      }
      const { said } = await connection(at, 'POST /mcp HTTP/1.1', { host: 'localhost', ...declared })
      expect(await said()).toMatch(/^HTTP\/1\.1 413 /)
    })

    test('in chunks of one byte: a character that is cut in two arrives whole', async () => {
      const at = await stage(name)
      const client = await at.session()
      const bytes = Buffer.from(JSON.stringify(request(1, 'echo', { params: { x: 'a€😀' } })))
      const chunks = [...bytes].map((byte) => Buffer.from([byte]))
      expect((await client.send({ chunks })).body.result).toEqual({ echo: { x: 'a€😀' } })
    })
  })

  test('a body may begin with a byte order mark', async () => {
    const at = await stage(name)
    const client = await at.session()
    const body = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(JSON.stringify(request(1)))])
    // RFC 8259, section 8.1: it may be ignored
    expect((await client.send({ body })).status).toBe(200)
  })

  test('keys of a body that are names of an object’s insides stay data', async () => {
    const at = await stage(name)
    const client = await at.session()
    const body = '{"jsonrpc":"2.0","id":1,"method":"echo","params":{"__proto__":{"polluted":true},"constructor":1}}'
    const answer = await client.send({ body })
    expect(answer.text).toContain('{"echo":{"__proto__":{"polluted":true},"constructor":1}}')
    expect({}).not.toHaveProperty('polluted')
  })
})

describe('bodies that were parsed already', () => {
  const ok = { jsonrpc: '2.0', id: 1, result: { echo: { x: 'é' } } }
  const message = request(1, 'echo', { params: { x: 'é' } })

  async function expectServed(at: Stage, port: number): Promise<void> {
    const client = (await at.session()).at(nodeDoor(port))
    expect((await client.post(message)).body).toEqual(ok)
    expect((await client.send({ body: { id: 1 } })).status).toBe(400)
    const get = await client.get()
    expect(get.status).toBe(200)
    await get.leave()
    expect((await client.delete()).status).toBe(200)
    expect((await client.post(message)).status).toBe(404)
  }

  test('are served behind Express and express.json()', async () => {
    const at = await stage('node')
    const app = express().use(express.json())
    app.all('/mcp', (req, res) => void at.handler.node(req, res, req.body))
    await expectServed(at, await listen(app))
  })

  test('are served by the handler itself as a route of Express, behind express.json()', async () => {
    const at = await stage('node')
    const app = express().use(express.json())
    app.all('/mcp', at.handler.node as RequestHandler)
    await expectServed(at, await listen(app))
  })

  test('are not needed by the handler as a route of Express, with nothing in front', async () => {
    const at = await stage('node')
    const app = express()
    app.all('/mcp', at.handler.node as RequestHandler)
    await expectServed(at, await listen(app))
  })

  test('leave the error of a body parser to Express', async () => {
    const at = await stage('node')
    const app = express().use(express.json())
    app.all('/mcp', at.handler.node as RequestHandler)
    app.use(((_error, _req, res, _next) => void res.status(400).end('mine')) as express.ErrorRequestHandler)
    const answer = await nodeDoor(await listen(app)).open({ body: '{' })
    expect(await answer.text()).toBe('mine')
  })

  test('are served behind Fastify and its own parser', async () => {
    const at = await stage('node')
    const app = fastify()
    onTestFinished(() => app.close())
    app.all('/mcp', async (req, reply) => {
      reply.hijack()
      await at.handler.node(req.raw, reply.raw, req.body)
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    await expectServed(at, (app.server.address() as net.AddressInfo).port)
  })

  test.each([
    ['read by the handler', false],
    ['parsed by the route', true],
  ])('are served behind Hono, %s', async (_, parsed) => {
    const at = await stage('fetch')
    const app = new Hono()
    app.all('/mcp', async (c) =>
      parsed && c.req.method === 'POST'
        ? at.handler.fetch(c.req.raw, { parsedBody: await c.req.json() })
        : at.handler.fetch(c.req.raw),
    )
    const client = (await at.session()).at(fetchDoor(async (req) => app.fetch(req)))
    expect((await client.post(message)).body).toEqual(ok)
    expect((await client.delete()).status).toBe(200)
  })

  test.each([
    ['null', null, -32600],
    ['a string', JSON.stringify(message), -32600],
    ['a buffer', Buffer.from('{}'), -32600],
    ['an array', [message], -32600],
  ])('are judged by the same rules: %s', async (_, parsedBody, code) => {
    const at = await stage('fetch')
    const client = await at.session()
    const { headers = {} } = client.with({})
    const init = {
      method: 'POST',
      headers: { accept: '*/*', 'content-type': 'application/json', ...headers } as Record<string, string>,
    }
    const response = await at.handler.fetch(new Request('http://x/mcp', init), { parsedBody })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ id: null, error: { code } })
  })

  test('may be as long as the parser lets them be', async () => {
    const at = await stage('node', { maxBodySize: 10_000 })
    const app = express().use(express.json({ limit: '1mb' }))
    app.all('/mcp', (req, res) => void at.handler.node(req, res, req.body))
    const client = (await at.session()).at(nodeDoor(await listen(app)))
    const params = { x: 'x'.repeat(20_000) }
    expect((await client.post(request(1, 'echo', { params }))).status).toBe(200)
  })
})
