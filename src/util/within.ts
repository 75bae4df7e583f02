/** A promise took longer than it may. */
export class Late extends Error {
  override readonly name = 'Late'
}

/**
 * Settles like the promise, if it settles within `ms`. What the promise does after that is ignored.
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
