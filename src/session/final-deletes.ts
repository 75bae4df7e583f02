/** A store that goes backwards (a failover with lag, a backup) brings no session back that this node knows to be deleted. */
import type { BoundedBackend } from '../backend/bounded.js'
import type { DeletedSessions } from '../cluster/deleted-sessions.js'

/** The backend, with a store that remembers what was deleted: a record that is there again is deleted again. */
export function withFinalDeletes(
  backend: BoundedBackend,
  deleted: DeletedSessions,
  onerror: (error: Error) => void,
): BoundedBackend {
  const { sessions, events } = backend
  const { look } = sessions

  const deleteAgain = async (id: string) => {
    onerror(new Error('the session store has gone backwards: a deleted session was there again; it is deleted again'))
    // A failure is told by the backend, and the session is as good as gone: the next one that asks for it tries again.
    await Promise.all([sessions.delete(id), events.delete(id)]).catch(() => {})
  }

  return {
    ...backend,
    sessions: {
      ...sessions,
      create: async (record, ttl, holder) => !deleted.has(record.id) && (await sessions.create(record, ttl, holder)),
      async load(id, holder) {
        const wasDeleted = deleted.has(id)
        const session = await sessions.load(id, holder)
        if (!session || !deleted.has(id)) return session
        // Or it was deleted while the answer was on its way.
        if (wasDeleted) await deleteAgain(id)
        return undefined
      },
      ...(look && {
        look: async (ids) =>
          (await look(ids)).map((standing, i) => (deleted.has(ids[i] as string) ? undefined : standing)),
      }),
      async delete(id) {
        const held = await sessions.delete(id)
        deleted.add(id)
        return held
      },
      async *list() {
        for await (const record of sessions.list()) if (!deleted.has(record.id)) yield record
      },
    },
  }
}
