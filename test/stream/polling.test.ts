/** A node looks for what its connections have missed: what comes between the question and what is done about the answer. */
import { expect, onTestFinished, test, vi } from 'vitest'
import { MAX_STREAMS } from '../../src/backend/backend.js'
import { memory } from '../../src/backend/memory.js'
import { FetchHttpReply } from '../../src/http/fetch.js'
import { Connection } from '../../src/stream/connection.js'
import { STANDALONE } from '../../src/stream/event-id.js'
import { Polling } from '../../src/stream/polling.js'
import { StreamSession } from '../../src/stream/stream-session.js'
import { gated } from '../harness/gated-backend.js'
import { fakeTime } from '../harness/time.js'

const READER = 'node:1'

/** A poller over a log whose calls are counted; time passes when the test says so. */
function polled({ isWrittenHere = () => false }: { isWrittenHere?: (stream: string) => boolean } = {}) {
  const pass = fakeTime()
  const { events: truth } = memory()
  const { events: log, calls } = gated({ ...memory(), events: truth })
  const polling = new Polling(log, isWrittenHere)
  const regressed = vi.fn()
  const open = async (session: string, stream = STANDALONE) => {
    await truth.open(session, stream, { head: '{}' })
    await truth.attach(session, stream, READER)
    const connection: Connection = new Connection({
      log,
      session: new StreamSession(session, true),
      stream,
      name: READER,
      position: 0,
      sink: new FetchHttpReply().stream({}),
      maxBuffered: 1000,
      onclose: () => polling.remove(connection),
      onwrote: () => polling.wrote(connection),
      onmissing: async () => {},
      ongap: () => true,
      onregress: regressed,
    })
    polling.add(connection)
    onTestFinished(() => connection.close())
    return connection
  }
  let batches = 0
  const append = (session: string, stream = STANDALONE) =>
    truth.append(session, stream, { id: `${batches++}`, events: ['{}'] })
  const looks = () => calls.count('events.look')
  const reads = () => calls.count('events.read')
  return { pass, truth, calls, open, append, looks, reads, regressed }
}

test('an event whose news was lost is found within 3 s on a new stream, and within 24 s on one that was quiet for long', async () => {
  const { pass, open, append } = polled()
  const connection = await open('s')
  await append('s')
  await pass(3000)
  expect(connection.position).toBe(1)
  await pass(120_000)
  await append('s')
  let waited = 0
  for (; connection.position < 2; waited += 1000) await pass(1000)
  expect(waited).toBeLessThanOrEqual(24_000)
  // There is something going on: the next one is looked for as at first.
  await append('s')
  await pass(3000)
  expect(connection.position).toBe(3)
})

test('what is told brings a quiet stream back to its first pace', async () => {
  const { pass, open, append, looks } = polled()
  const connection = await open('s')
  await pass(120_000)
  const before = looks()
  await append('s')
  connection.receive(1, ['{}'], false)
  await append('s')
  await pass(3000)
  expect(looks()).toBe(before + 1)
  expect(connection.position).toBe(2)
})

test('a stream that is waited for is looked at every 3 s, however long nothing happens on it', async () => {
  const { pass, open, looks, reads } = polled()
  await open('s', 'call')
  await pass(120_000)
  const before = looks()
  await pass(30_000)
  expect(looks() - before).toBeGreaterThanOrEqual(10)
  expect(reads()).toBe(0)
})

test('a stream that is written here is looked at once more, and again when it is not any more', async () => {
  let here = false
  const { pass, open, append, looks } = polled({ isWrittenHere: () => here })
  const connection = await open('s', 'call')
  await pass(10_000)
  here = true
  await append('s', 'call')
  const before = looks()
  await pass(60_000)
  expect(looks()).toBe(before + 1)
  expect(connection.position).toBe(1)
  here = false
  await append('s', 'call')
  await pass(3000)
  expect(connection.position).toBe(2)
})

test('a log that could not be asked is asked again soon', async () => {
  const { pass, open, append, calls } = polled()
  const connection = await open('s')
  await pass(120_000)
  const mend = calls.fail('events.look')
  await pass(24_000)
  mend()
  await append('s')
  await pass(3000)
  expect(connection.position).toBe(1)
})

test('streams that are due together are asked about together, in as many questions as it takes', async () => {
  const { pass, open, looks, reads } = polled()
  vi.spyOn(Math, 'random').mockReturnValue(0)
  onTestFinished(() => void vi.restoreAllMocks())
  const count = 2 * MAX_STREAMS + 10
  for (let index = 0; index < count; index++) await open(`s${index}`)
  await pass(1000)
  expect(looks()).toBe(3)
  await pass(0)
  expect(reads()).toBe(0)
})

test('an event that comes, with its news, between the question and the answer is no reason to read', async () => {
  const { pass, open, append, calls, reads, regressed } = polled()
  const connection = await open('s')
  const answer = calls.holdAnswer('events.look')
  await pass(3000)
  await answer.reached
  await append('s')
  connection.receive(1, ['{}'], false)
  answer.open()
  await pass(0)
  expect([connection.position, reads(), regressed.mock.calls.length]).toEqual([1, 0, 0])
})

test('news of an event that the answer tells of, come before the answer: it is written once', async () => {
  const { pass, open, append, calls, reads } = polled()
  const connection = await open('s')
  await append('s')
  const answer = calls.holdAnswer('events.look')
  await pass(3000)
  await answer.reached
  connection.receive(1, ['{}'], false)
  answer.open()
  await pass(0)
  expect([connection.position, reads()]).toEqual([1, 0])
})

test('an event that comes, without news, between the answer and the reading of the log is read with it', async () => {
  const { pass, open, append, calls, looks, reads } = polled()
  const connection = await open('s')
  await append('s')
  const reading = calls.hold('events.read')
  await pass(3000)
  await reading.reached
  await append('s')
  reading.open()
  await pass(0)
  expect([connection.position, looks(), reads()]).toEqual([2, 1, 1])
})

test('an event that comes, without news, between the question and the answer is found at the next look', async () => {
  const { pass, open, append, calls } = polled()
  const connection = await open('s')
  const answer = calls.holdAnswer('events.look')
  await pass(3000)
  await answer.reached
  await append('s')
  answer.open()
  await pass(6000)
  expect(connection.position).toBe(1)
})

test('a connection that was closed between the question and the answer is left alone', async () => {
  const { pass, open, append, calls, looks, reads } = polled()
  const connection = await open('s')
  await append('s')
  const answer = calls.holdAnswer('events.look')
  await pass(3000)
  await answer.reached
  connection.close()
  answer.open()
  await pass(60_000)
  expect([looks(), reads()]).toEqual([1, 0])
})

test('a connection that was replaced between the question and the answer: the newer one is looked at for itself', async () => {
  const { pass, open, append, calls, looks } = polled()
  const older = await open('s')
  const answer = calls.holdAnswer('events.look')
  await pass(3000)
  await answer.reached
  await append('s')
  older.close()
  const newer = await open('s')
  answer.open()
  await pass(3000)
  expect(looks()).toBe(2)
  expect([older.position, newer.position]).toEqual([0, 1])
})

test.each([
  [
    'that another node follows by now',
    (log: ReturnType<typeof memory>['events']) => log.attach('s', 'call', 'other:1'),
  ],
  [
    'that has ended',
    (log: ReturnType<typeof memory>['events']) => log.append('s', 'call', { id: 'end', events: [], end: true }),
  ],
])('a connection to a stream %s ends', async (_, change) => {
  const { pass, open, truth } = polled()
  const connection = await open('s', 'call')
  await pass(10_000)
  await change(truth)
  await pass(3000)
  expect(connection.closed).toBe(true)
})

test('a stream that went backwards is noticed', async () => {
  const { pass, open, append, truth, regressed } = polled()
  const connection = await open('s')
  await append('s')
  await append('s')
  await pass(3000)
  expect(connection.position).toBe(2)
  const look = vi
    .spyOn(truth, 'look')
    .mockImplementation(async () => [
      { writer: undefined, reader: READER, sent: undefined, first: 1, last: 1, ended: false },
    ])
  const read = vi.spyOn(truth, 'read').mockResolvedValue({
    ...{ head: '{}', writer: undefined, reader: READER, sent: undefined, first: 1, last: 1, ended: false },
    events: [{ position: 1, data: '{}' }],
  })
  await pass(3000)
  expect(regressed.mock.calls).toEqual([[1]])
  expect(connection.position).toBe(1)
  for (const spy of [look, read]) spy.mockRestore()
})
