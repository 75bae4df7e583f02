/**
 * The contract of a backend as a suite that any test framework runs, so that you can certify a backend or a session store
 * of your own. Each function returns cases; a case has a `name` and a `run` that rejects when the contract is broken.
 *
 * `make` is called once for each case and hands it the backend, and if there can be one a `peer`: a second handle on the same
 * data, as another node would have. Cases use random ids, so all of them may share one database. Some wait for short times to
 * live (80 to 300 ms) to pass; a whole suite takes a few seconds.
 *
 * @example With vitest, a backend with everything:
 * ```ts
 * import { describe, it } from 'vitest'
 * import * as contracts from 'mcp-roam/testing'
 *
 * const make: contracts.Make = async ({ retention }) => {
 *   const [backend, peer] = [mine({ url, retention }), mine({ url, retention })]
 *   return { backend, peer, release: async () => void (await Promise.all([backend.close(), peer.close()])) }
 * }
 *
 * describe('my backend', () => {
 *   const { sessionStoreContract, holdersContract, stateContract, eventLogContract, messageBusContract } = contracts
 *   const suites = [sessionStoreContract, holdersContract, stateContract, eventLogContract, messageBusContract]
 *   const cases = suites.flatMap((suite) => suite(make))
 *   for (const { name, run } of cases) it(name, run)
 * })
 * ```
 *
 * @example With node:test, a session store alone, over a cache that cannot compare and set:
 * ```ts
 * import { test } from 'node:test'
 * import { sessionStoreContract } from 'mcp-roam/testing'
 *
 * const sessions = myStore()
 * const cases = sessionStoreContract(async () => ({ backend: { sessions } }), { compareAndSet: false })
 * for (const { name, run } of cases) test(name, run)
 * ```
 *
 * @module
 */
export { messageBusContract } from './bus.js'
export { eventLogContract } from './events.js'
export { holdersContract } from './holders.js'
export type { ContractCase, Make, Needs, Subject } from './kit.js'
export { type SessionStoreOptions, sessionStoreContract } from './sessions.js'
export { type StateOptions, stateContract } from './state.js'
