/**
 * A promise that the test awaits later, or not at all when something else fails first: what it rejects with meanwhile is not
 * reported beside that failure.
 */
export function later<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}
