import { batchCases } from './events-batches.js'
import { budgetCases } from './events-budget.js'
import { contentCases } from './events-content.js'
import { lookCases } from './events-look.js'
import { ownershipCases } from './events-ownership.js'
import type { ContractCase, Make } from './kit.js'

/** The contract of `EventLog`. Some cases ask `make` for a small retention, which both handles must have. */
export function eventLogContract(make: Make): ContractCase[] {
  return [...ownershipCases(make), ...contentCases(make), ...batchCases(make), ...lookCases(make), ...budgetCases(make)]
}
