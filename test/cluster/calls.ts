/** What tests of clusters have their clients do, message by message. */
import { setTimeout as delay } from 'node:timers/promises'
import { expect, type TestContext } from 'vitest'
import type { Elicited } from '../harness/client.js'
import type { Answer, Reply } from '../harness/reply.js'
import type { SseBlock } from '../harness/sse.js'
import type { WireClient } from '../harness/wire-client.js'
import { within } from '../harness/within.js'
import { A, B, BACKENDS, type BackendKind, C, type Cluster, type ClusterOptions, startCluster } from './cluster.js'

export const ACCEPTED: Elicited = { action: 'accept', content: { username: 'u', email: 'u@example.com' } }
export const UNKNOWN = '00000000-0000-4000-8000-000000000000'

/** Heartbeat's time to live, and a bit: after this a silent node is taken for dead. */
export const DEATH = 8_000
/** How long a node may go on with a session of which it was not told that it is over. */
export const STALENESS = 9_000

let count = 0

export function toolCall(name: string, args: object) {
  const id = `call-${count++}`
  return {
    id,
    method: 'tools/call',
    params: { name, arguments: args, _meta: { progressToken: id } },
  }
}

/** A call that is answered by a stream; resolves when that is open. */
export async function stream(
  client: WireClient,
  node: Pick<Cluster, 'at'>,
  index: number,
  name: string,
  args: object,
): Promise<Reply> {
  const opened = await client.on(node.at(index)).open(toolCall(name, args))
  expect(opened.status).toBe(200)
  return opened
}

/** What comes before the stream ends, which it does in time. */
export const rest = (events: Reply, ms?: number) => within(events.rest(), 'the end of a stream', ms)

/** What comes before the stream ends or breaks. */
export async function heard(events: Reply): Promise<SseBlock[]> {
  const all: SseBlock[] = []
  try {
    for await (const event of events) all.push(event)
  } catch {}
  return all
}

/** The next event that is what the test looks for. */
export async function find(
  events: Reply,
  matches: (event: SseBlock) => boolean,
  what: string,
  ms?: number,
): Promise<SseBlock> {
  const search = async () => {
    for (let event = await events.next(); event; event = await events.next()) if (matches(event)) return event
    throw new Error(`the stream ended before ${what}`)
  }
  return within(search(), what, ms)
}

export const isLog = (text: string) => (event: SseBlock) => event.message.params?.data === text

export async function echo(client: WireClient, cluster: Cluster, index: number): Promise<Answer> {
  return client.on(cluster.at(index)).post(toolCall('echo', { text: 'e' }))
}

export async function statuses(client: WireClient, cluster: Cluster): Promise<number[]> {
  const found: number[] = []
  for (const node of [A, B, C]) {
    client.on(cluster.at(node))
    found.push((await echo(client, cluster, node)).status)
    const stream = await client.get()
    await stream.leave()
    found.push(stream.status)
    if (stream.status !== 200) found.push((await client.delete()).status)
  }
  return found
}

export const GONE = Array(9).fill(404)

/** Asks until there is another answer than `status`; all there ever was. */
export async function untilNot(status: number, ask: () => Promise<Answer>, ms: number): Promise<Answer> {
  const deadline = Date.now() + ms
  for (;;) {
    const answer = await within(ask(), 'an answer', ms)
    if (answer.status !== status) return answer
    expect(Date.now(), `still ${status} after ${ms} ms`).toBeLessThan(deadline)
    await delay(100)
  }
}

export const isElicitation = (event: SseBlock) => event.message.method === 'elicitation/create'
export const WITH_ELICITATION = { capabilities: { elicitation: {} } }

/** A cluster for one test, which may hurt it. */
export async function ownCluster(
  { onTestFinished, onTestFailed }: TestContext,
  options: ClusterOptions,
): Promise<Cluster> {
  const cluster = await startCluster(options)
  onTestFinished(() => cluster.stop())
  onTestFailed(() => console.error(cluster.log))
  return cluster
}

/** Those of the backends that can be had here. */
export function on(...names: BackendKind['name'][]): { name: BackendKind['name']; backend: string }[] {
  return BACKENDS.flatMap(({ name, service }) =>
    service && names.includes(name) ? [{ name, backend: service.url }] : [],
  )
}
