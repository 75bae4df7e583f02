/** Nodes of this process that share a backend, whose every call is counted. */
import type { Backend } from '../../src/backend/backend.js'
import type { SessionHandler, SessionHandlerOptions } from '../../src/index.js'
import { type GatedBackend, gated } from '../harness/gated-backend.js'
import { type ScriptedFactory, type ScriptedServer, scripted, UNANSWERED } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'
import { quiet } from '../harness/time.js'
import { initialize, openSession, type WireClient } from '../harness/wire-client.js'

export interface Node {
  handler: SessionHandler
  backend: GatedBackend
  factory: ScriptedFactory
}

/** What an operation costs. A script of the backend's is one command. */
export interface Cost {
  /** Commands of the session store. */
  store: number
  /** Commands of the event log. */
  log: number
  /** Looks at who is alive, and subscriptions that begin or end. */
  bus: number
  /** Messages that are published. */
  messages: number
}

/** What a node does now and then whatever is asked of it; it has rows of its own. */
const BACKGROUND = new Set(['bus.beat', 'sessions.look', 'events.look', 'events.keep'])

export class Scene {
  readonly nodes: readonly Node[]
  readonly #opened: WireClient[] = []

  constructor(
    size: number,
    /** What a node uses: the same for all, or a way of its own to the same. */
    backendOf: () => Backend,
    options: SessionHandlerOptions = {},
  ) {
    this.nodes = Array.from({ length: size }, () => {
      const factory = scripted({ 'tools/call': () => UNANSWERED })
      const backend = gated(backendOf())
      return { factory, backend, handler: serve(factory, { backend, ...options }) }
    })
  }

  node(i: number): Node {
    return this.nodes[i] as Node
  }

  /** Begins sessions all over the nodes. */
  async populate(sessions: number): Promise<void> {
    for (let i = 0; i < sessions; i++) await initialize(this.node(i % this.nodes.length).handler)
  }

  /** A session that so many nodes hold, and its server on the first of them. It ends with `clear`. */
  async session(holders = 1, first = 0): Promise<{ client: WireClient; server: ScriptedServer }> {
    const { handler, factory } = this.node(first)
    const client = await openSession(handler)
    this.#opened.push(client)
    for (const { handler } of this.nodes.slice(first + 1, first + holders)) await client.at(handler).request('ping')
    return { client, server: factory.last }
  }

  /** Ends what was opened by `session`. */
  async clear(): Promise<void> {
    for (const client of this.#opened.splice(0)) await client.delete()
  }

  /** The names of all commands since the last reset. */
  get calls(): string[] {
    return this.nodes.flatMap(({ backend }) => backend.calls.all)
  }

  reset(): void {
    for (const { backend } of this.nodes) backend.calls.reset()
  }

  /**
   * What something costs until nothing happens any more; and, if that lets time pass, afterwards. What nodes do by themselves
   * in that time is left out.
   */
  async costOf(act: () => Promise<unknown>, afterwards?: () => Promise<unknown>): Promise<Cost> {
    this.reset()
    await act()
    await quiet()
    const now = this.calls.filter((call) => call !== 'bus.beat')
    this.reset()
    await afterwards?.()
    return costOf([...now, ...this.calls.filter((call) => !BACKGROUND.has(call))])
  }
}

function costOf(calls: readonly string[]): Cost {
  const cost: Cost = { store: 0, log: 0, bus: 0, messages: 0 }
  for (const call of calls) {
    if (call === 'bus.publish') cost.messages++
    else if (call.startsWith('sessions.')) cost.store++
    else if (call.startsWith('events.')) cost.log++
    else cost.bus++
  }
  return cost
}
