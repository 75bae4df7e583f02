/** The timers of a node by what they are for, so that a test can run the work of one at any moment. */
import type { Owner, SetAt, VirtualClock } from './clock.js'
import { count } from './tally.js'

/**
 * Work that may be done at any time: a repeated look, a retry, something put off so that more comes together. By the file that sets
 * the timer; what a node seldom has to do comes first. What says that somebody else has taken too long is not here: it would be
 * a backend or a node that is away.
 */
export const WORK = {
  'stream/sent-position': 'how far a stream was sent',
  'stream/connection': 'reading a log again that was away',
  'stream/writer': 'writing again to a log that was away; an answer that has waited for it',
  'stream/takeover': 'looking for writers that are gone',
  'cluster/ask': 'asking again',
  'session/deadlines': 'an answer becomes a stream',
  'stream/polling': 'looking for what news have not told',
  'session/sessions': 'sweep and comparison with the store',
  'stream/writers': 'keeping streams that are written',
  'stream/keeping': 'keeping streams that are followed',
  'stream/open-connections': 'comments',
  'cluster/node': 'heartbeat',
} as const

export type Work = keyof typeof WORK

export const WORKS = Object.keys(WORK) as Work[]

/** The kinds of work that a node has to do, the seldom ones first. */
export function worksOf(clock: VirtualClock, owner: Owner): Work[] {
  const kinds = new Set(clock.timers(owner).map(({ set }) => kindOf(set)))
  return WORKS.filter((kind) => kinds.has(kind))
}

/** Does the node's next work of this kind now; false: it has none to do. */
export function work(clock: VirtualClock, owner: Owner, kind: Work, clockGoesOn: boolean): boolean {
  const next = clock.timers(owner).find(({ set }) => kindOf(set) === kind)
  if (!next) return false
  clock.fire(next, clockGoesOn)
  count(`timer of ${kind}`)
  return true
}

const kinds = new WeakMap<SetAt, string>()

/** The first file in the stack that sets a timer for a reason of its own. */
function kindOf(set: SetAt): string {
  let kind = kinds.get(set)
  if (kind === undefined) {
    const files = [...(set.stack ?? '').matchAll(/\/src\/([\w/-]+)\.[jt]s/g)].map(([, file]) => file as string)
    kind = files.find((file) => !file.startsWith('util/')) ?? ''
    // What it asks again is work; how long it waits and remembers is not.
    if (kind === 'cluster/ask' && !set.repeats) kind = ''
    kinds.set(set, kind)
  }
  return kind
}
