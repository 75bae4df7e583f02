/**
 * Random histories of a cluster of three nodes and two clients, against what a client may expect of one server that never dies.
 *
 * A failure prints its seed, path and replay path. To run that one again:
 * `SEED=… SEED_PATH=… REPLAY=… npx vitest run test/model`; `RUNS=…` for more histories than usual. With `CI` set the
 * histories are the same ones each time, so that a change is judged by what it does, and a few new ones; without, all are new.
 */
import { randomInt } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { conclude, initializeBoth } from './history.js'
import { begin, type Setup, setups } from './model.js'
import { commands } from './steps.js'
import { tally } from './tally.js'

// the one timer of the source that is imported
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms)),
}))

/** What thousands of histories must have come across. */
const OFTEN = [
  'a result',
  'a result of a request that was run again',
  'outcome-unknown',
  'a notification',
  'answered a question',
  '404 after DELETE',
  '404 after expiry',
  '503 for tools/call',
  '200 for resume',
  '204 for resume',
]

const { CI, SEED_PATH, RUNS } = process.env
const SEED = process.env.SEED ?? (CI ? '20261120' : undefined)

async function history(setup: Setup, steps: Iterable<fc.AsyncCommand<never, never>>): Promise<string[]> {
  const { model, real } = begin(setup)
  try {
    await initializeBoth(model, real)
    await fc.asyncModelRun(() => ({ model, real }) as never, steps)
    await conclude(model, real)
    return model.trace
  } finally {
    real.end()
  }
}

const histories = fc.asyncProperty(setups, commands, async (setup, steps) => {
  await history(setup, steps as never)
})

describe('a cluster, whatever happens to it', () => {
  test('is one server that never dies', { timeout: 600_000 }, async () => {
    await fc.assert(histories, {
      numRuns: RUNS ? Number(RUNS) : 2000,
      ...(SEED && { seed: Number(SEED) }),
      ...(SEED_PATH && { path: SEED_PATH }),
    })
    if (process.env.TALLY) console.log(Object.fromEntries([...tally].sort()))
    if (RUNS || SEED_PATH) return
    for (const what of OFTEN) expect(tally.get(what) ?? 0, what).toBeGreaterThan(20)
  })

  test.runIf(CI)('also where nobody has looked before', { timeout: 120_000 }, async () => {
    const seed = randomInt(2 ** 31)
    console.log(`histories of seed ${seed}`)
    await fc.assert(histories, { numRuns: 150, seed })
  })

  test('does the same for the same seed', { timeout: 60_000 }, async () => {
    const once = async () => {
      const traces: string[][] = []
      const property = fc.asyncProperty(setups, commands, async (setup, steps) => {
        traces.push(await history(setup, steps as never).catch((error) => [String(error)]))
      })
      await fc.assert(property, { seed: 42, numRuns: 10 })
      return traces
    }
    expect(await once()).toEqual(await once())
  })
})
