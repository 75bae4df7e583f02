/** Events of streams, and what streams begin with, sealed. How a stream stands is in the open. */
import type { EventLog } from '../backend.js'
import type { Keyring } from './keyring.js'

const HEAD = 'the head of a stream'
const EVENT = 'an event of a stream'

export function sealedEvents(events: EventLog, keyring: Keyring): EventLog {
  const box = (session: string) => keyring.box('session', session)

  return {
    ...(events.ttl !== undefined && { ttl: events.ttl }),
    async open(session, stream, init) {
      return events.open(session, stream, { ...init, head: box(session).seal(['head', stream], init.head) })
    },
    async append(session, stream, batch) {
      const sealer = box(session)
      const sealed = batch.events.map((event) => sealer.seal(['event', stream], event))
      return events.append(session, stream, { ...batch, events: sealed })
    },
    async read(session, stream, after, limit) {
      const slice = await events.read(session, stream, after, limit)
      if (!slice) return undefined
      const opener = box(session)
      const head = opener.open(['head', stream], slice.head, HEAD)
      const opened = slice.events.map(({ position, data }) => ({
        position,
        data: opener.open(['event', stream], data, EVENT),
      }))
      return { ...slice, head, events: opened }
    },
    async attach(session, stream, reader) {
      const info = await events.attach(session, stream, reader)
      return info && { ...info, head: box(session).open(['head', stream], info.head, HEAD) }
    },
    sent: (session, stream, position) => events.sent(session, stream, position),
    claim: (session, stream, writer, from) => events.claim(session, stream, writer, from),
    look: (streams) => events.look(streams),
    keep: (streams) => events.keep(streams),
    delete: (session) => events.delete(session),
  }
}
