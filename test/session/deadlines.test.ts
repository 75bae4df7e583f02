/** One timer for many deadlines: who is cancelled is let go of, who is not is told in time. */
import { expect, test, vi } from 'vitest'
import { Deadlines } from '../../src/session/deadlines.js'
import { fakeTime } from '../harness/time.js'

test('whoever is cancelled is not held on to, however few deadlines there are', () => {
  const deadlines = new Deadlines(60_000, () => {})
  const deadline = deadlines.add({ expire: () => {} })
  deadline.cancel()
  expect(Object.values(deadline).filter((value) => typeof value === 'object')).toEqual([])
})

test('each is told once when its time is up, and an error of one keeps nobody else from it', async () => {
  const pass = fakeTime()
  const onerror = vi.fn()
  const deadlines = new Deadlines(1000, onerror)
  const told: string[] = []
  const whose = (name: string) => ({ expire: () => void told.push(name) })
  deadlines.add(whose('a'))
  deadlines.add(whose('b')).cancel()
  deadlines.add({
    expire: () => {
      throw new Error('c')
    },
  })
  await pass(500)
  deadlines.add(whose('d'))
  await pass(499)
  expect(told).toEqual([])
  await pass(1)
  expect(told).toEqual(['a'])
  expect(onerror).toHaveBeenCalledTimes(1)
  await pass(500)
  await pass(5000)
  expect(told).toEqual(['a', 'd'])
})
