import { describe, it } from 'vitest'
import {
  type ContractCase,
  eventLogContract,
  type Make,
  messageBusContract,
  sessionStoreContract,
  stateContract,
} from '../../src/testing/index.js'

/** Hands contract cases to vitest. */
export function run(suite: string, cases: ContractCase[]): void {
  describe(suite, () => {
    for (const { name, run } of cases) it(name, run)
  })
}

/** Runs the whole contract: for a backend that has everything. */
export function certify(backend: string, make: Make): void {
  describe(backend, () => {
    run('session store', sessionStoreContract(make))
    run('state', stateContract(make))
    run('event log', eventLogContract(make))
    run('message bus', messageBusContract(make))
  })
}
