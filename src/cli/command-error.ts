/** What ends the program with one line for its user, and no stack. */
export class Failure extends Error {
  override readonly name = 'Failure'

  /** @param exitCode 1: it could not be done; 2: it was asked for in the wrong way. */
  constructor(
    message: string,
    readonly exitCode: 1 | 2 = 1,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}
