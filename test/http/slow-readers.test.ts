/** What does not go out as it should: to readers that are behind, past a log that is away, and answers that are no JSON. */
import type net from 'node:net'
import { describe, expect, test } from 'vitest'
import { DOORS } from '../harness/door.js'
import { gated } from '../harness/gated-backend.js'
import { Reply } from '../harness/reply.js'
import type { WireClient } from '../harness/wire-client.js'
import { PATIENCE, within } from '../harness/within.js'
import { connection } from './connection.js'
import { type Stage, stage } from './stage.js'
import { calling, messages, noStreamOpen, said, streaming } from './streams.js'

describe.each(DOORS)('through the %s adapter', (name) => {
  describe('a reader', () => {
    const MAX = 64 * 1024
    const COUNT = 700
    const CHUNK = 'x'.repeat(16 * 1024)

    test('that is behind is cut off, and comes back for the rest: nothing twice, nothing missing', async () => {
      const at = await stage(name, { maxBuffered: MAX })
      const client = await at.session()
      const first = name === 'node' ? await unread(at, client) : await client.get()
      const primed = await first.block()
      for (let n = 0; n < COUNT; n++) await at.server.notify('notifications/message', { data: n, filler: CHUNK })
      await noStreamOpen(at)
      // what the network had taken before it was cut is still there to be read
      const numbers: number[] = []
      let last = primed?.id
      const read = async (stream: Reply) => {
        while (numbers.at(-1) !== COUNT - 1) {
          const block = await stream.block()
          if (!block) return
          if (block.message) numbers.push(block.message.params.data)
          last = block.id ?? last
        }
      }
      await read(first).catch(() => {})
      expect(numbers.length).toBeLessThan(COUNT)
      for (let tries = 0; numbers.at(-1) !== COUNT - 1 && tries < 10; tries++) await read(await client.get(last))
      expect(numbers).toEqual(Array.from({ length: COUNT }, (_, n) => n))
    })

    test('that reads is not cut off: a burst beyond maxBuffered arrives on one connection', async () => {
      const at = await stage(name, { maxBuffered: MAX })
      const client = await at.session()
      const { stream, call } = await streaming(at, client, 1)
      for (let n = 0; n < 40; n++)
        void at.server.notify('notifications/message', { data: n, filler: CHUNK }, call.request.id)
      await call.answer()
      const numbers = messages(await stream.rest()).map(({ params }) => params?.data)
      expect(numbers).toEqual([...Array.from({ length: 40 }, (_, n) => n), undefined])
    })

    test('holds up nobody who notifies it: the messages wait in the log', async () => {
      const at = await stage(name, { maxBuffered: 1000 })
      const client = await at.session()
      const get = await client.get()
      const filler = 'x'.repeat(100_000)
      for (let n = 0; n < 5; n++) {
        const notification = { method: 'notifications/message', params: { level: 'info', data: n, filler } }
        const stored = at.handler.notify.session(client.sessionId, notification)
        expect(await within(stored, 'a message in the log', 1000)).toBe(true)
      }
      const numbers: unknown[] = []
      while (numbers.length < 5) numbers.push((await get.next())?.message.params.data)
      expect(numbers).toEqual([0, 1, 2, 3, 4])
    })

    test('gets a message bigger than maxBuffered', async () => {
      const at = await stage(name, { maxBuffered: 1000 })
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      await call.say('y'.repeat(1_000_000))
      await call.answer()
      const [big, done] = messages(await (await answer).rest())
      expect(big.params.data).toHaveLength(1_000_000)
      expect(done).toMatchObject({ id: 1 })
    })
  })

  test('a log that is away for a moment delays a stream, and loses nothing of it', async () => {
    const backend = gated()
    const at = await stage(name, { backend })
    const client = await at.session()
    let failures = 1
    const fail = () => {
      failures--
      for (const recover of recovers) recover()
      return Promise.reject(new Error('the log is away'))
    }
    const recovers = ['events.open', 'events.append'].map((what) => backend.calls.replace(what, fail))
    const { answer, call } = await calling(at, client, 1)
    await call.say('a')
    await call.answer()
    expect(messages(await (await answer).rest())).toMatchObject([...said('a'), { id: 1 }])
    expect(failures).toBe(0)
  })

  describe('an answer that is no JSON ends its request all the same', () => {
    const circular: Record<string, unknown> = {}
    circular.self = circular
    let deep: Record<string, unknown> = {}
    for (let depth = 0; depth < 100_000; depth++) deep = { deep }

    test.each([
      ['a bigint', { big: 1n }],
      ['a circle', circular],
      ['deeper than the stack', deep],
    ])('%s', async (_, result) => {
      const at = await stage(name, { upgradeAfter: 60_000 })
      const client = await at.session()
      const { answer, call } = await calling(at, client, 1)
      await call.answer(result).catch(() => {})
      expect(JSON.parse(await (await answer).text())).toMatchObject({ id: 1, error: { code: -32603 } })
      const streamed = await streaming(at, client, 2)
      await streamed.call.answer(result).catch(() => {})
      expect(messages(await streamed.stream.rest())).toMatchObject([{ id: 2, error: { code: -32603 } }])
      // and what is said beside it is the handler's own error
      const third = await calling(at, client, 3)
      await expect(third.call.say(result)).rejects.toThrow()
      await third.call.answer()
      await (await third.answer).text()
    })
  })
})

/** A GET over a socket that is not read until the answer's body is asked for. */
async function unread(at: Stage, client: WireClient): Promise<Reply> {
  const headers = { host: 'localhost', accept: '*/*', ...client.with({}).headers } as Record<string, string>
  const { socket } = await connection(at, 'GET /mcp HTTP/1.1', headers)
  const begin = await within(new Promise<Buffer>((resolve) => socket.once('data', resolve)), 'the head of an answer')
  socket.pause()
  expect(String(begin)).toMatch(/^HTTP\/1\.1 200 /)
  const body = unchunked(Buffer.from(begin.subarray(begin.indexOf('\r\n\r\n') + 4)), socket)
  return new Reply(200, {}, body, async () => void socket.destroy(), PATIENCE)
}

/** The body of a chunked answer, as much as came. */
async function* unchunked(begin: Buffer, socket: net.Socket): AsyncGenerator<Buffer> {
  let pending = begin
  const chunks = socket[Symbol.asyncIterator]()
  for (;;) {
    const line = pending.indexOf('\r\n')
    const size = line < 0 ? Number.NaN : Number.parseInt(pending.subarray(0, line).toString(), 16)
    if (size === 0) return
    if (pending.length >= line + 2 + size + 2) {
      yield pending.subarray(line + 2, line + 2 + size)
      pending = pending.subarray(line + 2 + size + 2)
      continue
    }
    const { value, done } = await chunks.next()
    if (done) return
    pending = Buffer.concat([pending, value as Buffer])
  }
}
