/** A fuzz: many exchanges at a time, and what must be true of each and of the process behind. */
import fc from 'fast-check'
import { seeded } from '../harness/random.js'
import { type Client, Clients, NAMES } from './clients.js'
import { type Exchange, exchange } from './exchanges.js'
import type { Weight } from './node.js'
import { type Outcome, resolveHeaders, send } from './sending.js'
import type { Target } from './target.js'

/** Exchanges at a time. */
const AT_ONCE = 32
/** Exchanges that are made up together, and between two weighings at least. */
const CHUNK = 2000
/** One of so many is a call of a good client. */
const PROBE = 100
/** Stops counting failures here: more say nothing new. */
const MAX_FAILURES = 20

/** What this library answers (docs/contract.md), 500 left out: no hook fails here; 408 is Node's own for a request that stalls. */
const STATUSES = new Set([200, 202, 204, 400, 403, 404, 405, 406, 408, 413, 415, 429, 431, 503])
/** What only the inside of the process knows. */
const INTERNALS = /\bat \S+ \(|node_modules|node:internal|\.m?js:\d+|\/src\/|\/dist\/|postgres:\/\/|redis:\/\//

export interface FuzzOptions {
  exchanges: number
  seed: number
  /** Told now and then. */
  onprogress?(done: number, weight: Weight): void
}

export interface FuzzResult {
  exchanges: number
  /** How often each status was answered, and each other end. */
  outcomes: Record<string, number>
  failures: string[]
  weights: Weight[]
}

export async function fuzz(target: Target, { exchanges, seed, onprogress }: FuzzOptions): Promise<FuzzResult> {
  const random = seeded(seed)
  const clients = new Clients(target, random)
  const result: FuzzResult = { exchanges: 0, outcomes: {}, failures: [], weights: [] }
  const fail = (what: string) => result.failures.push(what)
  const count = (outcome: string) => {
    result.outcomes[outcome] = (result.outcomes[outcome] ?? 0) + 1
  }

  async function perform(exchange: Exchange): Promise<void> {
    const living = await clients.one()
    const client = exchange.whose === 'ended' ? (clients.ended() ?? living) : living
    const headers = resolveHeaders(exchange, client, random)
    if (exchange.method === 'DELETE' || mayDelete(exchange)) client.ended = true
    const outcome = await send(target, exchange, headers)
    count(outcome.kind === 'answered' ? String(outcome.got.status) : outcome.kind)
    const problem = problemWith(outcome, exchange, client)
    if (problem) fail(`${problem}\n  ${told(exchange, headers)}\n  seed ${seed}`)
    if (outcome.kind === 'answered' && exchange.whose === 'own') {
      client.lastEventId = /^id: (\S+)$/m.exec(outcome.got.text)?.[1] ?? client.lastEventId
    }
  }

  const weighEvery = Math.max(CHUNK, Math.floor(exchanges / 20))
  for (let begun = 0; begun < exchanges && result.failures.length < MAX_FAILURES && !target.dead; ) {
    const chunk = fc.sample(exchange, { seed: seed + begun, numRuns: Math.min(CHUNK, exchanges - begun) })
    begun += chunk.length
    const work = async () => {
      for (let next = chunk.pop(); next && !target.dead && result.failures.length < MAX_FAILURES; next = chunk.pop()) {
        try {
          await perform(next)
          if (++result.exchanges % PROBE === 0) {
            const problem = await clients.isServed(await clients.one())
            if (problem) fail(problem)
          }
        } catch (error) {
          if (!target.dead) fail(String(error))
        }
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, work))
    if (target.dead || result.exchanges < weighEvery * (result.weights.length + 1)) continue
    const weight = await target.weigh()
    result.weights.push(weight)
    onprogress?.(result.exchanges, weight)
  }
  if (target.dead) fail(`the process ended after ${result.exchanges} exchanges:\n${target.log.slice(-3000)}`)
  const grown = growth(result.weights)
  if (grown !== undefined) fail(grown)
  return result
}

/** Bytes that were damaged may say what nobody meant. */
const mayDelete = ({ way, damage }: Exchange): boolean =>
  way === 'raw' && damage.kind !== 'none' && damage.kind !== 'slow'

function problemWith(outcome: Outcome, exchange: Exchange, client: Client): string | undefined {
  const { way, whose, method, damage } = exchange
  if (outcome.kind === 'unsendable') return undefined
  if (outcome.kind === 'endless') return way === 'raw' && isUnfinished(exchange) ? undefined : 'no end in time'
  if (outcome.kind === 'cut') {
    // The listener of Hono closes the connection of a long body that was not read; we have no part in that.
    const isListeners = exchange.door === 'fetch' && (exchange.body?.length ?? 0) > 60_000
    return isListeners || (way === 'raw' && damage.kind !== 'none') ? undefined : 'cut off without an answer'
  }
  const { status, text } = outcome.got
  if (!STATUSES.has(status)) return `status ${status}: ${text.slice(0, 200)}`
  if (INTERNALS.test(text)) return `internals in an answer: ${text.slice(0, 500)}`
  const strangers = (text.match(NAMES) ?? []).filter((name) => name !== client.name)
  if (strangers.length > 0) return `an answer with what is of another session: ${strangers[0]}`
  if (way === 'raw' || method !== 'POST') return undefined
  const isServed = status === 202 || (status === 200 && !isInitialize(exchange))
  if (isServed && whose !== 'own' && whose !== 'ended')
    return `${whose} session was served: ${status} ${text.slice(0, 200)}`
  const isAsItShould = Object.keys(exchange.headers).length === 0
  if (status === 404 && whose === 'own' && isAsItShould && !client.ended) return 'a session that is there got 404'
  return undefined
}

/** Whether Node waits for more, until its own time limits for requests. */
function isUnfinished({ damage }: Exchange): boolean {
  return damage.kind === 'flip' || damage.kind === 'length' || damage.kind === 'chunked'
}

/** It needs no session. */
function isInitialize({ body }: Exchange): boolean {
  return body?.includes('"initialize"') ?? false
}

function told({ way, door, method, whose, body, damage }: Exchange, headers: Record<string, string>): string {
  const said = body === undefined ? '' : body.toString('latin1').slice(0, 600)
  return JSON.stringify({ way, door, method, whose, damage: damage.kind, headers, body: said })
}

/** Memory is flat if the end weighs about what the beginning did, once everything that is bounded is full. */
function growth(weights: readonly Weight[]): string | undefined {
  const third = Math.floor(weights.length / 3)
  if (third < 2) return undefined
  const heaps = weights.map(({ heap, outside }) => heap + outside)
  const early = Math.max(...heaps.slice(third, 2 * third))
  const late = Math.min(...heaps.slice(-third))
  return late <= early * 1.15 + 4e6 ? undefined : `memory grew: ${early} bytes in the middle, ${late} at the end`
}
