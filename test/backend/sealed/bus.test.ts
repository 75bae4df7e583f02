/** Messages between nodes, where others can write to the bus, and read and repeat what is on it. */
import { beforeEach, describe, expect, it, onTestFinished, test, vi } from 'vitest'
import type { MessageBus } from '../../../src/backend/backend.js'
import { memory } from '../../../src/backend/memory.js'
import { sealedBus } from '../../../src/backend/sealed/bus.js'
import { Window } from '../../../src/backend/sealed/replays.js'
import { K1, K2, ringOf } from './keys.js'

const MINUTE = 60_000

let raw: MessageBus
let errors: Error[]
let time: number
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  raw = memory().bus
  errors = []
  time = 1_700_000_000_000
})

const node = (...keys: string[]) =>
  sealedBus(
    raw,
    ringOf(...(keys.length > 0 ? keys : [K1])),
    (error) => errors.push(error),
    () => time,
  )

async function inbox(bus: MessageBus, topic: string) {
  const received: string[] = []
  const end = await bus.subscribe(topic, (message) => received.push(message))
  return { received, end }
}

/** What is on the wire for a message. */
async function recorded(send: () => Promise<unknown>, topic = 't'): Promise<string[]> {
  const { received, end } = await inbox(raw, topic)
  await send()
  await settled()
  await end()
  return received
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve))

it('a message is not to be read on the bus', async () => {
  const [wire = ''] = await recorded(() => node().publish('t', 'secret marker'))
  expect(wire).not.toMatch(/secret|marker/)
  expect(Buffer.from(wire.split(':').at(-1) ?? '', 'base64url').toString('latin1')).not.toMatch(/secret/)
})

describe('dropped, told, and no harm to what follows:', () => {
  async function dropped(reason: RegExp, attack: () => Promise<void>): Promise<void> {
    const to = node()
    const box = await inbox(to, 't')
    await attack()
    await settled()
    expect(box.received).toEqual([])
    expect(errors.map(({ message }) => message)).toEqual([expect.stringMatching(reason)])
    await node().publish('t', 'true')
    await settled()
    expect(box.received).toEqual(['true'])
  }

  test.each([
    '',
    'garbage',
    '{"to":"ask"}',
    '.',
    'abcdefghijklmnop.',
    `abcdefghijklmnop.${'"mcp-roam:1:'}`,
    '\0\ud83d',
  ])('garbage %j', (text) => dropped(/is not encrypted|not among|format/, () => raw.publish('t', text)))

  it('a message of somebody without a key', () => dropped(/not among/, () => node(K2).publish('t', 'forged')))

  it('a message under another sender’s name', () =>
    dropped(/was changed/, async () => {
      const elsewhere = memory().bus
      const wires: string[] = []
      await elsewhere.subscribe('t', (wire) => wires.push(wire))
      await sealedBus(elsewhere, ringOf(K1), () => {}).publish('t', 'm')
      await settled()
      await raw.publish('t', `aaaaaaaaaaaaaaaa${wires[0]?.slice(16)}`)
    }))

  it('a message that was sent to another topic', () =>
    dropped(/was changed/, async () => {
      const [wire = ''] = await recorded(() => node().publish('other', 'm'), 'other')
      await raw.publish('t', wire)
    }))
})

it('a message that is repeated comes once, at once and later', async () => {
  const box = await inbox(node(), 't')
  const [wire = ''] = await recorded(() => node().publish('t', 'm'))
  await raw.publish('t', wire)
  await settled()
  time += 4 * MINUTE
  await raw.publish('t', wire)
  await settled()
  expect(box.received).toEqual(['m'])
  vi.advanceTimersByTime(10_000)
  expect(errors.map(({ message }) => message)).toEqual([
    expect.stringMatching(/dropped: 1 \(1 since.*has come before/),
    expect.stringMatching(/dropped: 1 \(2 since.*has come before/),
  ])
})

it('a message that was recorded is of no use to a node that has just started, after five minutes', async () => {
  const [wire = ''] = await recorded(() => node().publish('t', 'm'))
  time += 5 * MINUTE + 1
  const box = await inbox(node(), 't')
  await raw.publish('t', wire)
  await settled()
  expect(box.received).toEqual([])
  expect(String(errors)).toMatch(/more than 5 minutes away from the clock of this node/)
})

it('a sender that is forgotten cannot be repeated: what it had sent is too old by then', async () => {
  const to = node()
  const box = await inbox(to, 't')
  const [sender, others] = [node(), node()]
  const [first = ''] = await recorded(() => sender.publish('t', 'first'))
  time += 5 * MINUTE + 1
  // another sender that is new has those forgotten that are silent
  await others.publish('t', 'other')
  await raw.publish('t', first)
  await sender.publish('t', 'again')
  await settled()
  expect(box.received).toEqual(['first', 'other', 'again'])
  await raw.publish('t', first)
  await settled()
  expect(box.received).toHaveLength(3)
})

it('messages may come in another order, and from clocks that differ by minutes', async () => {
  const wires = await recorded(async () => {
    const sender = node()
    for (let n = 0; n < 1000; n++) await sender.publish('t', `${n}`)
  })
  time -= 4 * MINUTE
  const box = await inbox(node(), 't')
  for (const wire of wires.reverse()) await raw.publish('t', wire)
  await settled()
  expect(box.received).toHaveLength(1000)
  expect(errors).toEqual([])
})

it('each subscription of a topic gets a message once, also one that begins or ends meanwhile', async () => {
  const to = node()
  const [a, b] = [await inbox(to, 't'), await inbox(to, 't')]
  const [wire = ''] = await recorded(() => node().publish('t', '1'))
  const late = await inbox(to, 't')
  await raw.publish('t', wire)
  await settled()
  expect([a.received, b.received, late.received]).toEqual([['1'], ['1'], []])
  await a.end()
  await node().publish('t', '2')
  await settled()
  expect([a.received, b.received, late.received]).toEqual([['1'], ['1', '2'], ['2']])
})

it('a flood of garbage is told every ten seconds, with how much it was', async () => {
  await inbox(node(), 't')
  for (let n = 0; n < 10_000; n++) await raw.publish('t', `garbage ${n}`)
  await settled()
  expect(errors).toHaveLength(1)
  vi.advanceTimersByTime(10_000)
  expect(errors[1]?.message).toMatch(/dropped: 9999 \(10000 since the start\)/)
  vi.advanceTimersByTime(60_000)
  expect(errors).toHaveLength(2)
})

it('while encryption is being switched on, plain and sealed messages reach each other', async () => {
  const [before, reads, writes] = [raw, node('plain', K1), node(K1, 'plain')]
  const boxes = await Promise.all([reads, writes].map((bus) => inbox(bus, 't')))
  await before.publish('t', 'plain')
  await reads.publish('t', 'plain, too')
  await writes.publish('t', 'sealed')
  await settled()
  for (const { received } of boxes) expect(received).toEqual(['plain', 'plain, too', 'sealed'])
  expect(errors).toEqual([])
})

it('a window takes each number once, whatever the order and the gaps', () => {
  const window = new Window()
  const taken = new Set<number>()
  let highest = 0
  let seed = 1
  for (let round = 0; round < 20_000; round++) {
    seed = (seed * 48_271) % 2_147_483_647
    const step = seed % 97 === 0 ? 5000 : seed % 13 === 0 ? 900 : (seed % 40) - 20
    const number = Math.max(0, highest + step)
    const expected = !taken.has(number) && number > highest - 4096
    expect(window.take(number)).toBe(round === 0 ? true : expected)
    taken.add(number)
    highest = Math.max(highest, number)
  }
})
