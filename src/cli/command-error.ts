/** An error that ends the command with one line for its user, without a stack trace. */
export class CommandError extends Error {
  override readonly name = 'CommandError'

  /** @param exitCode 1: it could not be done; 2: the command line is wrong. */
  constructor(
    message: string,
    readonly exitCode: 1 | 2 = 1,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}
