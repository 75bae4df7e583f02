/** `currentSession()`: the session whose message is being handled. */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Session } from './session.js'

const storage = new AsyncLocalStorage<Session>()

/**
 * The session that the running handler serves. Works in whatever a server does because of a client's message, and in what
 * that starts; elsewhere it throws, and the factory's `context.session` is there to be kept instead.
 *
 * @throws Error outside of a session's handlers.
 * @example
 * server.registerTool('visits', {}, async () => {
 *   const visits = await currentSession().state.update('visits', (n: number = 0) => n + 1)
 *   return { content: [{ type: 'text', text: `visit ${visits}` }] }
 * })
 */
export function currentSession(): Session {
  const session = storage.getStore()
  if (!session) throw new Error('currentSession() was called outside of the handling of a session’s message')
  return session
}

export function runInSession<T>(session: Session, work: () => T): T {
  return storage.run(session, work)
}
