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
