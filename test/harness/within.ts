/** How long black-box tests wait for anything that should happen at once, in ms. */
export const PATIENCE = 10_000

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
