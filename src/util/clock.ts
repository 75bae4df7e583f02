/** Milliseconds of a clock that, unlike the time of day, is never set; for durations within this process. */
export function monotonic(): number {
  return performance.now()
}
