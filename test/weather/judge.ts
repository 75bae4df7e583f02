/** What one cell came to: counts for the table, and every promise that was not kept. */
import type { Run } from '../chaos/tools.js'
import { TOOLS } from '../chaos/tools.js'
import type { Caller } from './caller.js'
import type { Fault } from './fault.js'
import { isKnown } from './known.js'
import type { Call, Log } from './log.js'
import { BOUND, RECOVERY_LIMIT, STALENESS } from './terms.js'
import type { Grave } from './work.js'

export interface Counts {
  calls: number
  /** Calls whose outcome is unknown, says their answer. */
  unknown: number
  /** Calls that broke before there was anything to come back with. */
  cut: number
  /** 503s. */
  refused: number
  /** How often a client came back to the stream of a call. */
  resumed: number
  /** Numbered notifications that came. */
  events: number
  /** Sessions that were deleted. */
  deletes: number
  /** Those of them that were served after that, for a few seconds. */
  stale: number
  /** What a failover took with it: lost, and told as far as it can be. */
  lagged: number
}

export interface Evidence {
  backend: string
  fault: Fault
  /** When harm was done, and when all was well again, in ms since the cell began. */
  struck: { from: number; to: number }
  /** How long it took after that until each client was served, in ms. */
  recoveries: readonly number[]
  log: Log
  callers: readonly Caller[]
  graves: readonly Grave[]
  runs: readonly Run[]
  /** What the nodes wrote. */
  lines: readonly string[]
}

export interface Judgement {
  counts: Counts
  violations: string[]
  /** Violations of which {@link KNOWN} says that they are to come. */
  known: string[]
  /** What is counted as `lagged`. */
  lagged: string[]
}

export function judge(evidence: Evidence): Judgement {
  const { fault, log, callers, graves, runs, lines, recoveries } = evidence
  const lag = fault.allows?.includes('lag') ?? false
  const verdicts = [
    ...log.calls.flatMap((call) => callVerdicts(call, evidence)),
    ...log.faults.map((what) => ({ what, lagged: / 40[04]|found no session/.test(what) })),
    ...callers.flatMap((caller) => streamVerdicts(caller, evidence)),
    ...effectVerdicts(runs, log.calls),
    ...graves.flatMap((grave) => graveVerdicts(grave, evidence)),
    ...refusalVerdicts(evidence),
    ...lines.filter((line) => OWN_END.test(line)).map((what) => ({ what, lagged: false })),
    ...recoveries
      .filter((recovery) => recovery > RECOVERY_LIMIT)
      .map((recovery) => ({ what: `a client was served only ${recovery} ms after all was well`, lagged: false })),
  ]
  const lagged = verdicts.filter((verdict) => lag && verdict.lagged)
  const violations = verdicts.filter((verdict) => !lagged.includes(verdict)).map(({ what }) => what)
  const known = violations.filter((what) => isKnown(evidence, what))
  const count = (outcome: Call['outcome']) => log.calls.filter((call) => call.outcome === outcome).length
  return {
    counts: {
      calls: log.calls.length,
      unknown: count('unknown'),
      cut: count('cut'),
      refused: log.refusals.length,
      resumed: log.calls.reduce((sum, { resumed }) => sum + resumed, 0),
      events: callers.reduce((sum, { numbers }) => sum + numbers.heard.length, 0),
      deletes: graves.length,
      stale: graves.filter(({ served }) => served !== undefined).length,
      lagged: lagged.length,
    },
    violations: violations.filter((what) => !known.includes(what)),
    known,
    lagged: lagged.map(({ what }) => what),
  }
}

/** A node that ended as nobody had told it to, or that Node.js warned of a leak or the like. */
const OWN_END = /\[\d+ ended: (?!0\]|SIGKILL\])|^\S+ \(node:\d+\) /

interface Verdict {
  what: string
  /** A failover with lag may do this. */
  lagged: boolean
}

function callVerdicts(call: Call, { fault, struck }: Evidence): Verdict[] {
  const { client, kind, tool, key, outcome, why, begun, ended = Number.POSITIVE_INFINITY, steps, progress } = call
  const { allows = [] } = fault
  const verdicts: Verdict[] = []
  const say = (what: string, lagged = false) => {
    const where = `${client} (${kind}) ${tool} ${key} at ${begun}-${call.ended}`
    verdicts.push({ what: `${where}: ${what}; ${outcome}, ${why}`, lagged })
  }
  const inTrouble = ended > struck.from && begun < struck.to + RECOVERY_LIMIT
  switch (outcome) {
    case 'ok':
      if (tool.startsWith('long') && progress.length !== steps) say(`${progress.length} of ${steps} reports came`, true)
      break
    case 'unknown':
      if (!allows.includes('unknown') || !inTrouble) say('nobody can have been taken for dead', true)
      else if (TOOLS[tool]) say('it could have been run again', true)
      break
    case 'cut':
      if (!allows.includes('cut') || !inTrouble) say('nobody broke its connection')
      break
    case 'away':
      if (ended < struck.from || ended > struck.to + RECOVERY_LIMIT) say('the store was there')
      break
    case 'unanswered':
      if (call.accepted) say('the answer was accepted, and did not come to the tool')
      break
    case 'gone':
    case 'lost':
      say('it must not be', true)
      break
    default:
      say('it must not be')
  }
  if (ended - Math.max(begun, struck.to) > BOUND) say('it took too long')
  if (progress.some((step, index) => step !== index + 1)) say(`reports came as ${progress}`, true)
  return verdicts
}

function streamVerdicts({ name, kind, numbers }: Caller, { log, struck }: Evidence): Verdict[] {
  // two standalone streams of one client take the session's from each other
  if (log.forgetful.has(name)) return []
  const { missing, doubled, late, told, sure } = numbers
  const after = missing.filter((number) => (sure.get(number) ?? 0) > struck.to)
  const before = missing.filter((number) => !after.includes(number))
  // the other clients here know no such error, or their SDK keeps it to itself
  const silent = told === 0 && kind === '2025-11-25'
  const verdicts: Verdict[] = []
  const say = (what: string, lagged = false) => verdicts.push({ what: `${name} (${kind}): ${what}`, lagged })
  if (after.length > 0) say(`numbers ${after}, stored after all was well, never came`)
  if (before.length > 0) say(`numbers ${before} never came${silent ? ', and it was not told' : ''}`, !silent)
  if (doubled.length > 0) say(`numbers ${doubled} came twice`)
  if (late.length > 0) say(`numbers ${late} came after later ones`)
  if (told > 0) say(`it was told ${told} times that messages were lost`, true)
  return verdicts
}

function graveVerdicts({ caller, since, served, haunted }: Grave, { struck }: Evidence): Verdict[] {
  const verdicts: Verdict[] = []
  const say = (what: string) =>
    verdicts.push({ what: `${caller.name} (${caller.kind}), deleted at ${since}: ${what}`, lagged: true })
  // a node that could not be reached stops serving it within seconds (docs/contract.md)
  const inTrouble = served !== undefined && served > struck.from && since < struck.to + RECOVERY_LIMIT
  if (served !== undefined && !(inTrouble && served - since < STALENESS)) say(`it was served at ${served}`)
  if (haunted) say('its stream did not end')
  return verdicts
}

function effectVerdicts(runs: readonly Run[], calls: readonly Call[]): Verdict[] {
  const effects = new Map<string, number>()
  for (const { what, tool, key } of runs) {
    if (what === 'begun' && !TOOLS[tool]) effects.set(key, (effects.get(key) ?? 0) + 1)
  }
  const twice = [...effects].filter(([, times]) => times > 1)
  const never = calls.filter(({ tool, key, outcome }) => outcome === 'ok' && !TOOLS[tool] && !effects.has(key))
  return [
    ...twice.map(([key, times]) => ({ what: `unsafe call ${key} was run ${times} times`, lagged: false })),
    ...never.map(({ key }) => ({ what: `unsafe call ${key} succeeded, and was never run`, lagged: false })),
  ]
}

function refusalVerdicts({ log, struck }: Evidence): Verdict[] {
  const odd = log.refusals.filter(({ at }) => at < struck.from || at > struck.to + RECOVERY_LIMIT)
  return odd.map(({ at, what }) => ({ what: `${what}: 503 at ${at}, the store was there`, lagged: false }))
}
