/** Promises that are known not to be kept, each with why. They are shown in the table, and fail no run. */

interface Known {
  backend: string
  fault: string
  what: RegExp
  why: string
}

export const KNOWN: readonly Known[] = []

export function isKnown(at: { backend: string; fault: { name: string } }, violation: string): boolean {
  return KNOWN.some(
    ({ backend, fault, what }) => backend === at.backend && fault === at.fault.name && what.test(violation),
  )
}
