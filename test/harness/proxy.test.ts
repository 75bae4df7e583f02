import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { startProxy, type TestProxy } from './proxy.js'
import { within } from './within.js'

const servers: Server[] = []
const proxies: TestProxy[] = []

afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.close()
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

async function target(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  servers.push(server)
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function proxyTo(...targets: string[]): Promise<TestProxy> {
  const proxy = await startProxy(targets)
  proxies.push(proxy)
  return proxy
}

const text = async (url: string) => (await fetch(url)).text()

test('requests go to the targets in turn', async () => {
  const proxy = await proxyTo(await target((_, res) => res.end('a')), await target((_, res) => res.end('b')))
  expect([await text(proxy.url), await text(proxy.url), await text(proxy.url)]).toEqual(['a', 'b', 'a'])
})

test('events of a stream pass as they come', async () => {
  let end = () => {}
  const proxy = await proxyTo(
    await target((_, res) => {
      res.write('first')
      end = () => res.end('last')
    }),
  )
  const reader = (await fetch(proxy.url)).body!.pipeThrough(new TextDecoderStream()).getReader()
  expect((await within(reader.read(), 'the first event')).value).toBe('first')
  end()
  expect((await within(reader.read(), 'the last event')).value).toBe('last')
})

test('a cut breaks a stream on both sides', async () => {
  let gone: Promise<unknown> = Promise.resolve()
  const proxy = await proxyTo(
    await target((_, res) => {
      gone = once(res, 'close')
      res.write('first')
    }),
  )
  const body = (await fetch(proxy.url)).text()
  expect(proxy.cut()).toBe(1)
  await expect(within(body, 'the end of the stream')).rejects.toThrow(/terminated/)
  await within(gone, 'the end of the request at the target')
})

test('a target that dies in its answer breaks the answer; one that is not there is a 502; neither is tried again', async () => {
  const dying = await target((_, res) => res.write('first', () => res.destroy()))
  const proxy = await proxyTo(dying, 'http://127.0.0.1:1', dying)
  await expect(text(proxy.url)).rejects.toThrow(/terminated/)
  expect((await fetch(proxy.url)).status).toBe(502)
  expect(proxy.passages).toHaveLength(2)
})
