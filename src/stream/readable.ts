/** Whether a client can be served what an encrypted log holds for it. */
import type { EventLog, StreamInfo } from '../backend/backend.js'
import { PAGE } from './connection.js'

/**
 * What does not open (its key is missing) refuses a client while there is still a status to answer with. Events further on that
 * do not open end its connection, and the client comes back to be refused here.
 *
 * @param after The position up to which the client has the stream; undefined: it does not say.
 * @throws Unreadable
 */
export async function checkReadable(
  log: EventLog,
  session: string,
  stream: string,
  after: number | undefined,
  { sent, first, last }: StreamInfo,
): Promise<void> {
  const from = after ?? sent ?? first - 1
  if (last > from) await log.read(session, stream, from, PAGE)
}
