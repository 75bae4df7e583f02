/** What is a message: that which the SDKs take for one. What they ignore in silence is refused at the door instead. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { JSONRPCMessage, Transport } from '../../src/index.js'
import { isMessage } from '../../src/wire/jsonrpc.js'
import { buildServer as buildV1 } from '../fixtures/server-v1.js'
import { buildServer as buildV2 } from '../fixtures/server-v2.js'
import { oddNotification, oddRequest, oddResponse } from '../harness/odd-messages.js'
import { quiet } from '../harness/time.js'

const AT_ONCE = 100
const RUNS = 20

/** A server with nothing of this library in front of it. */
async function bare(build: typeof buildV1 | typeof buildV2) {
  const sent: JSONRPCMessage[] = []
  const transport: Transport = {
    start: async () => {},
    send: async (message) => void sent.push(message),
    close: async () => {},
  }
  const mcp = build() as ReturnType<typeof buildV1>
  await mcp.connect(transport as Parameters<typeof mcp.connect>[0])
  const tell = (message: unknown) => transport.onmessage?.(message as JSONRPCMessage)
  const initialize = {
    protocolVersion: '2025-11-25',
    capabilities: { roots: {} },
    clientInfo: { name: 'x', version: '1' },
  }
  tell({ jsonrpc: '2.0', id: 'init', method: 'initialize', params: initialize })
  tell({ jsonrpc: '2.0', method: 'notifications/initialized' })
  await quiet()
  sent.length = 0
  return { mcp, sent, tell }
}

/** Of messages that are told all together, those that are none, and those that the server did not notice: the same. */
async function expectSame(texts: fc.Arbitrary<string>, hear: (texts: string[]) => Promise<string[]>): Promise<void> {
  let refused = 0
  const several = fc.array(texts, { minLength: AT_ONCE, maxLength: AT_ONCE })
  await fc.assert(
    fc.asyncProperty(several, async (all) => {
      const none = all.filter((text) => !isMessage(JSON.parse(text)))
      expect(await hear(all)).toEqual(none)
      refused += none.length
    }),
    { numRuns: RUNS, endOnFailure: true },
  )
  expect(refused).toBeGreaterThan(RUNS)
}

describe.each([
  ['1.x', buildV1],
  ['2.x', buildV2],
])('a server of SDK line %s', (_, build) => {
  test('answers each request that is a message, and no other', async () => {
    const { sent, tell } = await bare(build)
    let ids = 0
    await expectSame(
      oddRequest(() => ++ids),
      async (texts) => {
        const messages = texts.map((text) => JSON.parse(text))
        for (const message of messages) tell(message)
        await quiet()
        const answered = new Set(sent.splice(0).map((answer) => 'id' in answer && answer.id))
        return texts.filter((__, index) => !answered.has(messages[index].id))
      },
    )
  })

  test('hears of each notification that is a message, and of no other', async () => {
    const { mcp, tell } = await bare(build)
    let heard = false
    mcp.server.fallbackNotificationHandler = async () => {
      heard = true
    }
    await expectSame(oddNotification, async (texts) => {
      const missed: string[] = []
      for (const text of texts) {
        heard = false
        tell(JSON.parse(text))
        await new Promise(setImmediate)
        if (!heard) missed.push(text)
      }
      return missed
    })
  })
})

test('a response is a message if a server of either line takes it', async () => {
  const servers = await Promise.all([bare(buildV1), bare(buildV2)])
  await expectSame(
    oddResponse(() => 'ID'),
    async (texts) => {
      const settled = new Set<number>()
      for (const { mcp, sent, tell } of servers) {
        for (const index of texts.keys()) {
          const settle = () => settled.add(index)
          mcp.server.ping().then(settle, settle)
        }
        await quiet()
        for (const text of texts) {
          const asked = sent.shift() as { id: number }
          tell({ ...JSON.parse(text), id: asked.id })
        }
        await quiet()
      }
      return texts.filter((_, index) => !settled.has(index))
    },
  )
})
