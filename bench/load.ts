/** The process that calls: a fixed number of connections, each with one call at a time. */
import { performance } from 'node:perf_hooks'
import { Connection } from './connection.js'
import { answer } from './ipc.js'
import { percentile } from './statistics.js'

export interface LoadJob {
  url: string
  /** Shared out among the connections. */
  sessions: string[]
  connections: number
  /** Milliseconds of calls that are checked but not counted, while connections open. */
  leadIn: number
  /** Milliseconds of calls that are counted. */
  duration: number
}

export interface LoadResult {
  /** Calls that were counted. */
  calls: number
  /** Calls that were made. */
  all: number
  /** Milliseconds. */
  p50: number
  p99: number
  /** How busy the caller was, 0 to 1; near 1 it is the caller that was measured. */
  busy: number
}

async function load({ url, sessions, connections, leadIn, duration }: LoadJob): Promise<LoadResult> {
  const from = performance.now() + leadIn
  const to = from + duration
  const busySince = performance.eventLoopUtilization()
  const latencies: number[] = []
  let all = 0
  const run = async (session: string) => {
    const connection = new Connection(url)
    for (let now = performance.now(); now < to; ) {
      const latency = await connection.call(session)
      all++
      const counts = now >= from
      now = performance.now()
      if (counts && now < to) latencies.push(latency)
    }
    await connection.close()
  }
  await Promise.all(Array.from({ length: connections }, (_, i) => run(sessions[i % sessions.length] ?? '')))
  const busy = performance.eventLoopUtilization(busySince).utilization
  return { calls: latencies.length, all, p50: percentile(latencies, 50), p99: percentile(latencies, 99), busy }
}

answer<LoadJob, LoadResult | undefined>(undefined, load)
