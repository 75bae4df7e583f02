/** The process that floods: each connection names one session after the other that there is not, as fast as it is answered. */
import { setPriority } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'undici'
import { echoCall, HEADERS } from '../client.js'
import { answer } from '../ipc.js'

export interface FloodJob {
  url: string
  connections: number
  /** Milliseconds. */
  duration: number
  /** What each connection waits between an answer and its next request, in ms. */
  pause: number
  /** Leaves the processor to the others: what is measured then is the node, not the fight for a processor. */
  nice: boolean
}

/** How often each status came. */
export type FloodResult = Record<number, number>

async function flood({ url, connections, duration, pause, nice }: FloodJob): Promise<FloodResult> {
  setPriority(nice ? 19 : 0)
  const { origin, pathname } = new URL(url)
  const until = performance.now() + duration
  const statuses: FloodResult = {}
  const run = async () => {
    const client = new Client(origin)
    while (performance.now() < until) {
      const headers = { ...HEADERS, 'mcp-session-id': crypto.randomUUID() }
      const request = { path: pathname, method: 'POST' as const, headers, body: echoCall(1, 'x') }
      const { statusCode, body } = await client.request(request)
      await body.dump()
      statuses[statusCode] = (statuses[statusCode] ?? 0) + 1
      if (pause > 0) await delay(pause)
    }
    await client.destroy()
  }
  await Promise.all(Array.from({ length: connections }, run))
  return statuses
}

answer<FloodJob, FloodResult | undefined>(undefined, flood)
