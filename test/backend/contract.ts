import { describe, expect, it } from 'vitest'
import { type CompleteBackend, FINISHED_TTL, TOMBSTONE_TTL } from '../../src/backend/backend.js'
import {
  type ContractCase,
  eventLogContract,
  holdersContract,
  type Make,
  messageBusContract,
  type Needs,
  sessionStoreContract,
  stateContract,
} from '../../src/testing/index.js'
import { record } from './record.js'

/** Hands contract cases to vitest. */
export function run(suite: string, cases: ContractCase[]): void {
  describe(suite, () => {
    for (const { name, run } of cases) it(name, run)
  })
}

/** Two backends on the same data for each case, as two nodes have. `needs` are options that every backend takes. */
export function pairs(make: (needs: Needs) => CompleteBackend): Make {
  return async (needs) => {
    const [backend, peer] = [make(needs), make(needs)]
    return { backend, peer, release: async () => void (await Promise.all([backend.close(), peer.close()])) }
  }
}

/** Runs the whole contract, for a backend that has everything. */
export function certify(backend: string, make: Make): void {
  describe(backend, () => {
    run('session store', sessionStoreContract(make))
    run('holders', holdersContract(make))
    run('state', stateContract(make))
    run('event log', eventLogContract(make))
    run('message bus', messageBusContract(make))
  })
}

/** What can only be proved of a backend whose clock the test sets. */
export function certifyTimes(make: (now: () => number) => CompleteBackend): void {
  it('a deleted id is refused until its tombstone has expired, and may be used again then', async () => {
    let time = 1_000_000
    const backend = make(() => time)
    const { sessions, events } = backend
    await sessions.create(record('s'), 60_000)
    await sessions.delete('s')
    await events.delete('s')
    time += TOMBSTONE_TTL - 1
    expect(await sessions.create(record('s'), 60_000)).toBe(false)
    expect(await events.open('s', 'stream', { head: '0' })).toBe(false)
    time += 1
    expect(await sessions.create(record('s'), 60_000)).toBe(true)
    expect(await events.open('s', 'stream', { head: '0' })).toBe(true)
    await backend.close()
  })

  it('a stream that has ended is kept for some minutes, longer if it is still read, and no longer than the others', async () => {
    let time = 1_000_000
    const { events, close } = make(() => time)
    const names = ['done', 'read', 'open'].map((stream) => ({ session: 's', stream }))
    const there = async () => (await events.look(names)).map((standing) => standing !== undefined)
    for (const { session, stream } of names) {
      await events.open(session, stream, { head: '0', writer: 'w' })
      await events.append(session, stream, { id: 'b', writer: 'w', events: ['1'], end: stream !== 'open' })
    }
    time += FINISHED_TTL - 1
    expect(await there()).toEqual([true, true, true])
    expect((await events.read('s', 'done', 0, 10))?.events).toHaveLength(1)
    await events.keep(names.slice(1, 2))
    time += 1
    expect(await there()).toEqual([false, true, true])
    time += FINISHED_TTL - 1
    expect(await there()).toEqual([false, false, true])
    await close()
  })
}
