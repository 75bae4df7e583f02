/** Bounded waiting, in real time: whatever clock a test pretends, what never happens is told. */

// taken before any test can replace them
const { setTimeout, clearTimeout } = globalThis
const now = performance.now.bind(performance)

/** How long tests wait for anything that should happen at once, in ms. */
export const PATIENCE = 15_000

/** The promise, or a rejection that says what did not happen in time. */
export async function within<T>(promise: PromiseLike<T>, what: string, ms = PATIENCE): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Asks until the answer is yes, for what tells nobody when it happens; rejects when it is not in time. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what = String(condition),
  ms = PATIENCE,
): Promise<void> {
  const deadline = now() + ms
  while (!(await condition())) {
    if (now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
