/** Who decides when something happens: the test. */
import { onTestFinished, vi } from 'vitest'
import { Ticks } from '../../src/util/ticks.js'

/** The clock, and what the source waits for by it; turns of the event loop come as ever. */
const FAKED: ('setTimeout' | 'clearTimeout' | 'setInterval' | 'clearInterval' | 'Date' | 'performance')[] = [
  'setTimeout',
  'clearTimeout',
  'setInterval',
  'clearInterval',
  'Date',
  'performance',
]

/** From here to the end of the test, time passes only when the function that this returns is called. 404s wait for no tick. */
export function fakeTime(): (ms: number) => Promise<void> {
  vi.useFakeTimers({ toFake: FAKED })
  const ticks = vi.spyOn(Ticks.prototype, 'after').mockResolvedValue()
  onTestFinished(() => {
    vi.useRealTimers()
    ticks.mockRestore()
  })
  return async (ms) => void (await vi.advanceTimersByTimeAsync(ms))
}

/** Lets everything happen that needs no timer and no network. */
export async function quiet(): Promise<void> {
  for (let i = 0; i < 30; i++) await new Promise(setImmediate)
}

/** A promise that the test settles. */
export interface Deferred<T> {
  promise: Promise<T>
  resolve(value: T): void
  reject(error: Error): void
}

export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void
  let reject!: (error: Error) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
