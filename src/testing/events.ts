import { contentCases } from './events-content.js'
import { ownershipCases } from './events-ownership.js'
import type { ContractCase, Make } from './kit.js'

/** The contract of `EventLog`. `make` is given a small retention by some cases, and must pass it on to both handles. */
export function eventLogContract(make: Make): ContractCase[] {
  return [...ownershipCases(make), ...contentCases(make)]
}
