/** Which errors have a connection replaced. */
import { expect, test, vi } from 'vitest'
import type { ConnectionEvents, Connector } from '../../../src/backend/redis/connection.js'
import { sendingToOne } from '../../../src/backend/redis/connection.js'
import { Link } from '../../../src/backend/redis/link.js'
import { closing } from './fixture.js'

/** Connects at once, to a server that answers everything with an error. */
function refusing(message: string, sharded = false) {
  const opened: ConnectionEvents[] = []
  const connector: Connector = {
    kind: 'fake',
    keyPrefix: '',
    secret: undefined,
    sharded,
    connect(events) {
      opened.push(events)
      queueMicrotask(events.ready)
      return {
        ...sendingToOne(() => Promise.reject(new Error(message))),
        ready: () => true,
        subscribe: async () => {},
        unsubscribe: async () => {},
        destroy: () => {},
      }
    },
  }
  return { opened, connector: async () => connector }
}

test.each([
  "READONLY You can't write against a read only replica.",
  "READONLY You can't write against a read only replica. script: 5f3, on @user_script:3.",
  "ERR Error running script (call to f_5f3): @user_script:3: @user_script: 3: -READONLY You can't write against a read only replica.",
  'LOADING Redis is loading the dataset in memory',
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
  'UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)',
])('leaves a server that says: %s', async (message) => {
  const { opened, connector } = refusing(message)
  const demoted = vi.fn()
  const link = closing(new Link(connector, { demoted }))
  const both = [link.send('k', ['set', 'k', 'v']), link.send('k', ['set', 'k', 'v'])]
  expect(await Promise.allSettled(both)).toMatchObject([{ status: 'rejected' }, { status: 'rejected' }])
  await vi.waitFor(() => expect(opened).toHaveLength(2))
  // Told once of each connection, not of each command.
  expect(demoted).toHaveBeenCalledTimes(1)
})

test.each([
  "OOM command not allowed when used memory > 'maxmemory'.",
  'NOREPLICAS Not enough good replicas to write.',
  'NOPERM User READONLY has no permissions to run the set command',
])('stays with a server that says: %s', async (message) => {
  const { opened, connector } = refusing(message)
  const link = closing(new Link(connector))
  const { generation } = link
  await expect(link.send('k', ['set', 'k', 'v'])).rejects.toThrow(message)
  expect(link.generation).toBe(generation)
  expect(opened).toHaveLength(1)
})

test('leaves it to a cluster to find its masters', async () => {
  const { connector } = refusing('LOADING Redis is loading the dataset in memory', true)
  const link = closing(new Link(connector))
  const { generation } = link
  await expect(link.send('k', ['set', 'k', 'v'])).rejects.toThrow(/LOADING/)
  expect(link.generation).toBe(generation)
})
