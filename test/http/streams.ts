/** What tests of streams have in common. */
import { expect } from 'vitest'
import type { Reply } from '../harness/reply.js'
import type { SseBlock } from '../harness/sse.js'
import type { WireClient } from '../harness/wire-client.js'
import { until } from '../harness/within.js'
import type { Call, Stage } from './stage.js'

export const messages = (events: SseBlock[]) => events.map(({ message }) => message)

/** What log messages look like. */
export const said = (...data: unknown[]) =>
  data.map((each) => ({ method: 'notifications/message', params: { data: each } }))

/** A request on its way: the answer to come, and the call at the server. */
export async function calling(
  at: Stage,
  client: WireClient,
  id: string | number,
): Promise<{ answer: Promise<Reply>; call: Call }> {
  const answer = client.open({ id, method: 'hold' })
  answer.catch(() => {})
  return { answer, call: await at.call(id) }
}

/** A request that has become a stream, read up to its first message. */
export async function streaming(at: Stage, client: WireClient, id: string | number) {
  const { answer, call } = await calling(at, client, id)
  await call.say('begun')
  const stream = await answer
  const first = await stream.next()
  expect(first?.message.params.data).toBe('begun')
  return { stream, call, last: first?.id as string }
}

/** The node has noticed that a client went away. */
export async function noStreamOpen({ handler }: Stage): Promise<void> {
  await until(async () => (await handler.status()).openStreams === 0, 'no stream is open any more')
}
