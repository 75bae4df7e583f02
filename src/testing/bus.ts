import assert from 'node:assert/strict'
import type { Backend, MessageBus } from '../backend/backend.js'
import { atOnce, BRIEF, type ContractCase, casesOf, eventually, LONG, type Make } from './kit.js'
import { hostileTexts, PROPERTY_NAMES, randomId, randomText } from './samples.js'

/** The contract of `MessageBus`. */
export function messageBusContract(make: Make): ContractCase[] {
  const { it, timed } = casesOf(make)
  return [
    it('a message reaches every subscriber of its topic on every node, the sender included', async ({ a, b }) => {
      const topic = randomId()
      const inboxes = [await inbox(a, topic), await inbox(a, topic), await inbox(b, topic)]
      await bus(a).publish(topic, 'from a')
      for (const each of inboxes) await each.has('from a')
      await bus(b).publish(topic, 'from b')
      for (const each of inboxes) await each.has('from b')
      for (const each of inboxes) await each.close()
    }),

    it('a message arrives once', async (handles) => {
      const topic = randomId()
      const inboxes = [await inbox(handles.a, topic), await inbox(handles.b, topic)]
      const messages = Array.from({ length: 600 }, (_, index) => `${index}`)
      await atOnce(handles, messages.length, (backend, index) => bus(backend).publish(topic, `${index}`))
      for (const each of inboxes) {
        for (const message of messages) await each.has(message)
        await settled(handles, each, topic)
        assert.equal(new Set(each.received).size, each.received.length)
        await each.close()
      }
    }),

    it('a message that nobody is subscribed to is dropped, and later subscribers do not get it', async (handles) => {
      const topic = randomId()
      await bus(handles.a).publish(topic, 'early')
      const late = [await inbox(handles.a, topic), await inbox(handles.b, topic)]
      for (const each of late) {
        await settled(handles, each, topic)
        assert.equal(each.received.includes('early'), false)
        await each.close()
      }
    }),

    it('a later subscriber does not get what an earlier one was sent', async (handles) => {
      const topic = randomId()
      const early = await inbox(handles.a, topic)
      await bus(handles.b).publish(topic, 'early')
      const late = [await inbox(handles.a, topic), await inbox(handles.b, topic)]
      await early.has('early')
      for (const each of late) {
        await settled(handles, each, topic)
        assert.equal(each.received.includes('early'), false)
        await each.close()
      }
      await early.close()
    }),

    it('a message reaches a subscriber from the same node and from another one, also after earlier subscribers have left', async ({
      a,
      b,
    }) => {
      const topic = randomId()
      for (const [index, from, to] of [
        [0, a, b],
        [1, b, a],
        [2, a, a],
        [3, b, b],
      ] as const) {
        const each = await inbox(to, topic)
        await bus(from).publish(topic, `${index}`)
        await each.has(`${index}`)
        assert.deepEqual(each.received, [`${index}`])
        await each.close()
      }
    }),

    it('unsubscribing ends one subscription, and leaves the others of the topic as they are', async (handles) => {
      const topic = randomId()
      const [leaving, staying, remote] = [
        await inbox(handles.a, topic),
        await inbox(handles.a, topic),
        await inbox(handles.b, topic),
      ]
      await bus(handles.b).publish(topic, '1')
      for (const each of [leaving, staying, remote]) await each.has('1')
      await leaving.close()
      await bus(handles.b).publish(topic, '2')
      for (const each of [staying, remote]) await each.has('2')
      await settled(handles, staying, topic)
      assert.deepEqual(leaving.received, ['1'])
      await staying.close()
      const again = await inbox(handles.a, topic)
      await bus(handles.b).publish(topic, '3')
      await again.has('3')
      assert.equal(leaving.received.length, 1)
      assert.equal(staying.received.includes('3'), false)
      await again.close()
      await remote.close()
    }),

    it('nothing arrives after unsubscribing, not even what was on its way', async (handles) => {
      const topic = randomId()
      const [leaving, staying] = [await inbox(handles.a, topic), await inbox(handles.a, topic)]
      const sent = [bus(handles.a).publish(topic, '1'), bus(handles.b).publish(topic, '2')]
      await leaving.close()
      const before = [...leaving.received]
      await Promise.all(sent)
      for (const message of ['1', '2']) await staying.has(message)
      await settled(handles, staying, topic)
      assert.deepEqual(leaving.received, before)
      await staying.close()
    }),

    it('topics with strange names are kept apart', async (handles) => {
      const topics = hostileTexts(randomId())
      const inboxes = await Promise.all(topics.map((topic) => inbox(handles.b, topic)))
      for (const [index, topic] of topics.entries()) await bus(handles.a).publish(topic, `${index}`)
      for (const [index, each] of inboxes.entries()) {
        await each.has(`${index}`)
        await settled(handles, each, topics[index] ?? '')
        assert.deepEqual(
          each.received.filter((message) => !message.startsWith('settled')),
          [`${index}`],
        )
        await each.close()
      }
    }),

    it('large, empty and strange messages arrive unchanged', async ({ a, b }) => {
      const topic = randomId()
      const inboxes = [await inbox(a, topic), await inbox(b, topic)]
      const messages = [
        randomText(100_000),
        '🙂é'.repeat(30_000),
        '',
        "'; NOTIFY x; --",
        '{"a":"\\u0000"}',
        'a\r\nb\u2028',
      ]
      for (const message of messages) await bus(a).publish(topic, message)
      for (const each of inboxes) for (const message of messages) await each.has(message)
      for (const each of inboxes) await each.close()
    }),

    it('a listener may publish and unsubscribe', async ({ a, b }) => {
      const [ping, pong] = [randomId(), randomId()]
      const replies = await inbox(a, pong)
      const off = await bus(b).subscribe(ping, (message) => {
        void off().then(() => bus(b).publish(pong, `re: ${message}`))
      })
      await bus(a).publish(ping, 'hello')
      await replies.has('re: hello')
      await replies.close()
    }),

    it('every node sees that a node beats, and that it leaves', async ({ a, b }) => {
      const nodes = hostileTexts(randomId('node-'))
      for (const node of nodes) await bus(a).beat(node, LONG)
      for (const backend of [a, b]) {
        const alive = await bus(backend).nodes()
        for (const node of nodes) assert.equal(alive.filter((each) => each === node).length, 1, node)
      }
      for (const node of nodes) await bus(b).leave(node)
      const alive = await bus(a).nodes()
      for (const node of nodes) assert.equal(alive.includes(node), false, node)
    }),

    it('a node that never beat is not alive', async ({ a }) => {
      const alive = await bus(a).nodes()
      for (const name of [randomId(), ...PROPERTY_NAMES]) assert.equal(alive.includes(name), false)
    }),

    timed('a node counts as dead when it has not beaten again for its ttl', async ({ a, b }, race) => {
      const [silent, beating] = [randomId(), randomId()]
      await bus(a).beat(beating, race.ttl)
      await bus(a).beat(silent, race.ttl)
      await bus(b).beat(beating, LONG)
      assert.equal((await bus(b).nodes()).includes(silent), true)
      race.stop()
      await eventually('death of a node', async () => !(await bus(b).nodes()).includes(silent))
      assert.equal((await bus(b).nodes()).includes(beating), true)
      await bus(a).beat(beating, BRIEF)
      await eventually(
        'death of a node whose last beat had a shorter ttl',
        async () => !(await bus(a).nodes()).includes(beating),
      )
    }),

    it('a node that leaves counts as dead at once, and may come back', async ({ a, b }) => {
      const [one, two] = [randomId(), randomId()]
      await bus(a).beat(one, LONG)
      await bus(a).beat(two, LONG)
      await bus(a).leave(one)
      await bus(a).leave(randomId())
      const alive = await bus(b).nodes()
      assert.deepEqual([alive.includes(one), alive.includes(two)], [false, true])
      await bus(b).beat(one, LONG)
      assert.equal((await bus(a).nodes()).includes(one), true)
      await bus(a).leave(one)
      await bus(a).leave(two)
    }),
  ]
}

/** A subscription that remembers what it received. */
interface Inbox {
  received: string[]
  /** Resolves once the message has arrived. */
  has(message: string): Promise<void>
  close(): Promise<void>
}

async function inbox(backend: Backend, topic: string): Promise<Inbox> {
  const received: string[] = []
  const close = await bus(backend).subscribe(topic, (message) => {
    received.push(message)
  })
  return {
    received,
    close,
    has: (message) => eventually('arrival of a message', () => received.includes(message)),
  }
}

/** Publishes a marker from each node and waits for both: a message that was published before and has not arrived by then is lost. */
async function settled({ a, b }: { a: Backend; b: Backend }, box: Inbox, topic: string): Promise<void> {
  for (const from of [a, b]) {
    const marker = randomId('settled-')
    await bus(from).publish(topic, marker)
    await box.has(marker)
  }
}

function bus(backend: Backend): MessageBus {
  assert(backend.bus, 'the backend has no message bus')
  return backend.bus
}
