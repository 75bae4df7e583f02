/** Promises that are known not to be kept, each with why. They are shown in the table, and fail no run. */

interface Known {
  backend: string
  fault: string
  what: RegExp
  why: string
}

export const KNOWN: readonly Known[] = [
  {
    backend: 'Redis Sentinel',
    fault: 'replica with lag promoted',
    what: /stored after all was well, never came/,
    why:
      'the log gives out positions again that the connection has passed, and the connection takes the news of them for ' +
      'events that it has written: as many messages as the failover took are swallowed after it',
  },
]

export function isKnown(at: { backend: string; fault: { name: string } }, violation: string): boolean {
  return KNOWN.some(
    ({ backend, fault, what }) => backend === at.backend && fault === at.fault.name && what.test(violation),
  )
}
