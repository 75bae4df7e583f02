/** A promise did not settle in time. */
export class Late extends Error {
  override readonly name = 'Late'
}

/**
 * Settles as the promise does, if it does so within `ms`. What becomes of the promise later is ignored.
 *
 * @throws Late when the time is up.
 */
export async function within<T>(ms: number, promise: PromiseLike<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late(`no answer within ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Like {@link within}, but what has arrived while the process was too busy to look counts as in time: between the two halves
 * of the time it does look.
 *
 * @throws Late when the time is up.
 */
export async function patiently<T>(ms: number, promise: PromiseLike<T>): Promise<T> {
  try {
    return await within(ms / 2, promise)
  } catch (error) {
    if (!(error instanceof Late)) throw error
    return within(ms / 2, promise)
  }
}
