/**
 * A little of `npm run weather`, with fewer clients: one fault of each kind, each on another backend. `WEATHER_SEED=<n>`
 * repeats a run.
 */
import { describe, expect, test } from 'vitest'
import { describeWith, postgresProgram, redisProgram } from '../services/use.js'
import { BACKENDS } from './backends.js'
import { runCell } from './cell.js'
import { table } from './table.js'

const SEED = Number(process.env.WEATHER_SEED ?? Math.floor(Math.random() * 2 ** 31))
const LIGHT = { seed: SEED, wire: 1, sdk: 1, visitors: 1, calm: 1000 }

/** In ms; a cell that does not come to an end stops by itself before. */
const LIMIT = 90_000

function weather(on: string, what: string): void {
  const backend = BACKENDS.find(({ name }) => name === on)
  const fault = backend?.faults.find(({ name }) => name === what)
  if (!backend || !fault) throw new Error(`no such weather: ${on}, ${what}`)
  test(what, { timeout: LIMIT }, async () => {
    const result = await runCell(backend, fault, LIGHT)
    if (!result) throw new Error('it cannot be done on this machine')
    console.log(`seed ${SEED}\n${table([result])}`)
    if (result.violations.length > 0) console.error(result.nodeLog.join('\n'))
    expect(result.violations).toEqual([])
    expect(result.counts.calls).toBeGreaterThan(10)
  })
}

describe('on SQLite', () => weather('SQLite', 'nodes killed, three times'))
describeWith('on Redis', await redisProgram(), () => weather('Redis', 'store frozen 3 s'))
describeWith('on Redis Sentinel', await redisProgram(), () => weather('Redis Sentinel', 'primary killed'))
describeWith('on Redis Cluster', await redisProgram(), () => weather('Redis Cluster', 'primary killed'))
describeWith('on PostgreSQL', await postgresProgram(), () => weather('PostgreSQL', 'node cut off 2 s'))
