/** How often things of interest happened, over all histories: a model that sees none of them checks nothing. */
export const tally = new Map<string, number>()

export function count(what: string): void {
  tally.set(what, (tally.get(what) ?? 0) + 1)
}
