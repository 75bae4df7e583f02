/** Client libraries are optional peer dependencies: each is loaded when a backend first needs it. */

/**
 * Loads a package; undefined: it is not installed.
 *
 * @param name As it stands in the import, for instance `ioredis`.
 * @throws Whatever else went wrong. A package that is there and lacks one of its own dependencies is such a case: its user
 * has to hear of that, not that the package is missing.
 */
export async function ifInstalled<T>(name: string, load: () => Promise<T>): Promise<T | undefined> {
  try {
    return await load()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ERR_MODULE_NOT_FOUND' && message.includes(`'${name}'`)) return undefined
    throw error
  }
}
