/** What each operation costs is what docs/costs.md says, however many nodes and sessions there are. */
import { expect, test } from 'vitest'
import { memory } from '../../src/backend/memory.js'
import { fakeTime } from '../harness/time.js'
import { OPERATIONS, type Row } from './operations.js'
import { costSaid, OPERATION_ROWS } from './page.js'
import { type Cost, Scene } from './scene.js'

/** What is counted by tests of its own. */
const ELSEWHERE = ['an instance that was idle for `liveIdle` goes']

test('each row of the page is counted', () => {
  expect([...OPERATION_ROWS.keys()].sort()).toEqual([...Object.keys(OPERATIONS), ...ELSEWHERE].sort())
})

test.each([1, 8, 24].flatMap((nodes) => [100, 5000].map((sessions) => [nodes, sessions] as const)))(
  'on %i nodes, beside %i sessions',
  { timeout: 60_000 },
  async (size, sessions) => {
    const pass = fakeTime()
    const shared = memory()
    const scene = new Scene(size, () => shared)
    await scene.populate(sessions)
    const counted: Record<string, Cost> = {}
    const said: Record<string, Cost> = {}
    for (const [name, row] of Object.entries(OPERATIONS)) {
      for (const letters of trials(row, size, sessions)) {
        const act = await row.act({ scene, pass, ...letters })
        // Nothing that is known of the other nodes is still new.
        await pass(1_100)
        const title = `${name} (h = ${letters.h}, k = ${letters.k}, s = ${letters.s})`
        counted[title] = await scene.costOf(act, () => pass(row.later ? 600 : 0))
        said[title] = costSaid(name, { ...letters, n: size })
        await scene.clear()
      }
    }
    expect(counted).toEqual(said)
  },
)

function trials({ nodes = 1, h, k, s }: Row, size: number, sessions: number): { h: number; k: number; s: number }[] {
  if (nodes > size) return []
  const holders = h ? [1, 2, 5].filter((count) => count <= size) : [1]
  const messages = k ? [1, 3] : [1]
  // Once more than are looked at by one command.
  const told = s ? [1, size === 8 && sessions === 100 ? 300 : 10] : [1]
  return holders.flatMap((h) => messages.flatMap((k) => told.map((s) => ({ h, k, s }))))
}
