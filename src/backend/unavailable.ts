/** How a backend that cannot answer, or not so that its answer can be used, is told to those who asked. */

/** The backend failed or took too long. Its `cause` says what happened; that is for the operator, and never reaches a client. */
export class Unavailable extends Error {
  override readonly name: string = 'Unavailable'
}

/**
 * What is stored is there and cannot be read: its key is missing, or somebody changed it. To ask again does not help; the
 * operator must act. The message says what to do, and holds no secret.
 */
export class Unreadable extends Unavailable {
  override readonly name = 'Unreadable'
}
