/** A short part of `npm run fuzz`: other exchanges each time, outside CI. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { SDKS } from '../harness/server.js'
import { discard, scratch } from '../services/children.js'
import { fuzz } from './fuzz.js'
import { Target } from './target.js'

const seed = process.env.CI ? 20_261_122 : Math.floor(Math.random() * 2 ** 31)

test.each(SDKS)('8,000 hostile exchanges harm no server of SDK %s', { timeout: 120_000 }, async (sdk) => {
  const folder = scratch()
  const target = new Target(sdk, sdk === 'v1' ? { kind: 'memory' } : { kind: 'sqlite', file: join(folder, 'fuzz.db') })
  await target.start()
  try {
    const { exchanges, outcomes, failures } = await fuzz(target, { exchanges: 8000, seed })
    expect(failures.join('\n')).toBe('')
    expect(exchanges).toBe(8000)
    // It got through, and was refused in each of the common ways.
    for (const status of [200, 202, 400, 404, 405, 406, 415]) expect(outcomes).toHaveProperty(String(status))
  } finally {
    await target.stop()
    discard(folder)
  }
})
