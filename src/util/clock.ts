/** Milliseconds that only go forward, whatever happens to the wall clock; for durations within this process. */
export function monotonic(): number {
  return performance.now()
}
