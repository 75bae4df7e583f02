/** What only node:http, and what is built on it, can bring. */
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import express from 'express'
import { describe, expect, test } from 'vitest'
import { listen, nodeDoor } from '../harness/door.js'
import { openSession } from '../harness/wire-client.js'
import { within } from '../harness/within.js'
import { connection, connectionTo } from './connection.js'
import { expectRefusal } from './refusal.js'
import { request, stage } from './stage.js'

describe('the node adapter', () => {
  test('control bytes in a session id do not get past node:http', async () => {
    const at = await stage('node')
    const { said } = await connection(at, 'DELETE /mcp HTTP/1.1', { host: 'localhost', 'mcp-session-id': 'a\x01\x00b' })
    expect(await said()).toMatch(/^HTTP\/1\.1 400 /)
  })

  test('a client that goes away in the middle of its body harms nobody', async () => {
    const at = await stage('node')
    const client = await at.session()
    let ended: Promise<unknown> = Promise.resolve()
    const arrived = new Promise<void>((resolve) => {
      void listen((req, res) => {
        ended = at.handler.node(req, res)
        resolve()
      }).then((port) => {
        const headers = {
          host: 'localhost',
          accept: '*/*',
          'content-type': 'application/json',
          'mcp-session-id': client.sessionId,
          'content-length': '1000',
        }
        const { socket } = connectionTo(port, 'POST /mcp HTTP/1.1', headers, '{"jsonrpc"')
        void arrived.then(() => socket.destroy())
      })
    })
    await within(arrived, 'the request')
    await within(ended, 'the end of a request whose client has gone')
    expect((await client.post(request(1))).status).toBe(200)
  })

  test('a declared body over the limit is answered though the client is still writing it', async () => {
    const at = await stage('node', { maxBodySize: 1000 })
    const answer = await at.send({ body: 'x'.repeat(8 * 1024 * 1024) })
    expectRefusal(answer, 413, -32000, null)
  })

  test('a connection that is to be closed after a refusal is not, under a client that is still sending its body', async () => {
    const at = await stage('node')
    const headers = { host: 'localhost', 'content-length': '100000', connection: 'close' }
    const { said, socket } = await connection(at, 'PUT /mcp HTTP/1.1', headers, 'x'.repeat(50_000))
    const events: string[] = []
    socket.on('end', () => events.push('end')).on('error', () => events.push('error'))
    expect(await said()).toMatch(/^HTTP\/1\.1 405 /)
    await delay(100)
    events.push('rest')
    socket.write('x'.repeat(50_000))
    await within(once(socket, 'close'), 'the end of the connection')
    expect(events).toEqual(['rest', 'end'])
  })

  test('a body that never ends keeps an answered connection for two seconds', async () => {
    const at = await stage('node')
    const headers = { host: 'localhost', 'content-length': '1000000', connection: 'close' }
    const { said, socket } = await connection(at, 'PUT /mcp HTTP/1.1', headers, 'x')
    expect(await said()).toMatch(/^HTTP\/1\.1 405 /)
    await within(once(socket, 'close'), 'the end of the connection', 4000)
  })

  test('two session ids in two headers are no session', async () => {
    const at = await stage('node')
    const client = await at.session()
    const headers = { 'mcp-session-id': [client.sessionId, client.sessionId] as unknown as string }
    expect((await at.send({ headers, body: request(1) })).status).toBe(404)
  })

  test('tells handlers the whole URL where Express has cut off what it was mounted at', async () => {
    const at = await stage('node')
    const app = express()
    app.use('/deep/mcp', (req, res) => void at.handler.node(req, res))
    await openSession(nodeDoor(await listen(app), '/deep/mcp?x=1'))
    const { extra } = await at.server.got('initialize')
    expect(extra?.requestInfo?.url?.pathname).toBe('/deep/mcp')
    expect(extra?.request?.url).toMatch(/\/deep\/mcp\?x=1$/)
  })

  test('a request target that looks like another host does not become the URL’s host', async () => {
    const at = await stage('node')
    await openSession(nodeDoor(await listen(at.handler.node), '//evil.example/mcp'))
    const { extra } = await at.server.got('initialize')
    expect(extra?.requestInfo?.url?.hostname).toBe('127.0.0.1')
  })

  test('a body that something in front has read and not handed on is an error, not a request without end', async () => {
    const at = await stage('node')
    const client = await at.session()
    const port = await listen((req, res) => {
      req.resume().on('end', () => void at.handler.node(req, res))
    })
    const answer = await client.at(nodeDoor(port)).post(request(1))
    expect(answer.status).toBe(500)
    expect(String(at.errors)).toMatch(/parsedBody/)
  })
})
