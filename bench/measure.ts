/** Rounds of load against each server in turn, so that a machine that gets slower or faster does so for all. */
import { join } from 'node:path'
import { openSession } from './client.js'
import { Child } from './ipc.js'
import type { LoadJob, LoadResult } from './load.js'
import type { ServerState } from './server.js'
import type { ServerName } from './servers/names.js'

export interface Plan {
  servers: readonly ServerName[]
  rounds: number
  /** Milliseconds of each round. */
  duration: number
  /** Milliseconds of load before the first round. */
  warmUp: number
  connections: number
  sessions: number
  /** Where the servers write CPU profiles, if they shall. */
  profiles?: string | undefined
}

/** What one server did in one round. */
export interface Round {
  callsPerSecond: number
  p50: number
  p99: number
  /** Microseconds of the server's processor time for each call. */
  cpuPerCall: number
  /** How busy the load generator was, 0 to 1. */
  loadBusy: number
}

interface Target {
  name: ServerName
  server: Child<unknown, ServerState>
  url: string
  sessions: string[]
  rounds: Round[]
}

const LEAD_IN = 100

/** `directory` is for the servers' files. */
export async function measure(plan: Plan, directory: string, progress: (line: string) => void) {
  const children: { stop(): Promise<void> }[] = []
  try {
    const load = (await Child.start<LoadJob, LoadResult>('load', './load.ts', [])).child
    children.push(load)
    const targets = await Promise.all(plan.servers.map((name) => start(name, plan, directory)))
    children.push(...targets.map((target) => target.server))
    for (const target of targets) {
      progress(`warm-up: ${target.name}`)
      await round(target, load, plan, plan.warmUp)
    }
    for (let n = 1; n <= plan.rounds; n++) {
      for (const target of targets) {
        progress(`round ${n} of ${plan.rounds}: ${target.name}`)
        target.rounds.push(await round(target, load, plan, plan.duration))
      }
    }
    return new Map(targets.map(({ name, rounds }) => [name, rounds]))
  } finally {
    await Promise.all(children.map((child) => child.stop()))
  }
}

async function start(name: ServerName, plan: Plan, directory: string): Promise<Target> {
  const execArgv = plan.profiles === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${join(plan.profiles, name)}`]
  const file = join(directory, `${name}.db`)
  const { child, hello } = await Child.start<unknown, ServerState>(name, './server.ts', [name, file], execArgv)
  const url = `http://127.0.0.1:${hello.port}/mcp`
  const sessions: string[] = []
  while (sessions.length < plan.sessions) sessions.push(await openSession(url))
  return { name, server: child, url, sessions, rounds: [] }
}

async function round(
  { server, url, sessions }: Target,
  load: Child<LoadJob, LoadResult>,
  { connections }: Plan,
  duration: number,
): Promise<Round> {
  const before = await server.ask({})
  const { calls, all, p50, p99, busy } = await load.ask({ url, sessions, connections, leadIn: LEAD_IN, duration })
  const after = await server.ask({})
  return {
    callsPerSecond: (calls * 1000) / duration,
    p50,
    p99,
    cpuPerCall: (after.cpu - before.cpu) / all,
    loadBusy: busy,
  }
}
