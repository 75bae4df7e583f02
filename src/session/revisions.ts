/** Which of two records of a session came first, also when the store went back and nodes went on from different ones. */
import type { Journal, SessionRecord } from '../backend/backend.js'

/** How many revisions before it a record remembers. */
const MAX_ANCESTORS = 8

/**
 * The record's next revision. It is the time of day where that is higher, so that two nodes which go on from one record, each
 * without knowing of the other, do not come to the same number, and the later one has the higher.
 *
 * @param above Another revision that it must be higher than.
 */
export function successor(record: SessionRecord, journal: Journal, above = record.revision): SessionRecord {
  const revision = Math.max(record.revision + 1, above + 1, Date.now())
  const ancestors = [...(record.ancestors ?? []), record.revision].slice(-MAX_ANCESTORS)
  return { ...record, revision, ancestors, journal }
}

/** Whether a record was written knowing the earlier one, as far as it remembers. */
export function follows({ revision, ancestors = [] }: SessionRecord, earlier: SessionRecord): boolean {
  const [oldest] = ancestors
  if (revision <= earlier.revision) return false
  return oldest === undefined || earlier.revision < oldest || ancestors.includes(earlier.revision)
}
