/** What the handlers of a server see of the HTTP request that they serve. */
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { describe, expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { DOORS, door } from '../harness/door.js'
import { serve } from '../harness/serve.js'
import { openSession } from '../harness/wire-client.js'
import { request, stage } from './stage.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe.each(['v1', 'v2'] as const)('handlers of the %s SDK line', (sdk) => {
    interface Seen {
      isRequest: boolean
      header: string | undefined
      url: string | undefined
      method: string | undefined
      client: string | undefined
      subject: unknown
      sessionId: string | undefined
    }

    function build(seen: Seen[]) {
      if (sdk === 'v1') {
        const server = new McpServerV1({ name: 's', version: '1' })
        server.registerTool('look', {}, (extra) => {
          seen.push({
            isRequest: true,
            header: extra.requestInfo?.headers['x-probe'] as string,
            url: extra.requestInfo?.url?.pathname,
            method: 'POST',
            client: extra.authInfo?.clientId,
            subject: extra.authInfo?.extra?.sub,
            sessionId: extra.sessionId,
          })
          return { content: [] }
        })
        return server
      }
      const server = new McpServerV2({ name: 's', version: '1' })
      server.registerTool('look', {}, (ctx) => {
        const req = ctx.http?.req
        seen.push({
          isRequest: req instanceof Request,
          header: req?.headers.get('x-probe') ?? undefined,
          url: req && new URL(req.url).pathname,
          method: req?.method,
          client: ctx.http?.authInfo?.clientId,
          subject: ctx.http?.authInfo?.extra?.sub,
          sessionId: ctx.sessionId,
        })
        return { content: [] }
      })
      return server
    }

    test('see the HTTP request and its verified auth, also where the session was restored', async () => {
      const seen: Seen[] = []
      const backend = memory()
      const options = { backend }
      const headers = { authorization: 'Bearer app/alice' }
      const before = serve(() => build(seen), options)
      const client = await openSession(await door(name, before), { version: '2025-06-18', headers })
      const call = (probe: string) =>
        client.post(request(probe, 'tools/call', { params: { name: 'look', arguments: {} } }), {
          headers: { 'x-probe': probe },
        })
      expect((await call('one')).body).toMatchObject({ result: { content: [] } })
      await before.close()
      const after = serve(() => build(seen), options)
      client.on(await door(name, after))
      expect((await call('two')).body).toMatchObject({ result: { content: [] } })
      const expected = {
        isRequest: true,
        url: '/mcp',
        method: 'POST',
        client: 'app',
        subject: 'alice',
        sessionId: client.sessionId,
      }
      expect(seen).toEqual([
        { ...expected, header: 'one' },
        { ...expected, header: 'two' },
      ])
    })

    test('see no auth where there is none', async () => {
      const seen: Seen[] = []
      const handler = serve(() => build(seen))
      const client = await openSession(await door(name, handler), { version: '2025-06-18' })
      await client.request('tools/call', { name: 'look', arguments: {} })
      expect(seen).toMatchObject([{ client: undefined, subject: undefined, header: undefined }])
    })
  })

  test('the web request that handlers see can be used as one', async () => {
    const at = await stage(name)
    const client = await at.session()
    await client.post(request(1), { headers: { 'x-probe': 'yes' } })
    const seen = (await at.server.got('echo')).extra?.request as Request
    expect(seen).toBeInstanceOf(Request)
    expect(Object.prototype.toString.call(seen)).toBe('[object Request]')
    expect(seen.headers.get('x-probe')).toBe('yes')
    expect(seen.headers).toBe(seen.headers)
    expect(seen.method).toBe('POST')
    expect(new URL(seen.url).pathname).toBe('/mcp')
    expect(seen.signal.aborted).toBe(false)
    // as an auth library does
    expect(new Request(seen.url, { headers: seen.headers }).headers.get('x-probe')).toBe('yes')
  })
})
