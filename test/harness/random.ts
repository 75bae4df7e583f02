/** Numbers that look random and are the same for the same seed. */

/** Numbers in [0, 1) (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

export function seeded(seed: number) {
  const next = randomFrom(seed)
  const below = (bound: number) => Math.floor(next() * bound)
  return {
    /** A whole number below the bound. */
    below,
    /** From `least` to `most`. */
    between: (least: number, most: number) => least + below(most - least + 1),
    chance: (likely: number) => next() < likely,
    pick: <T>(items: readonly T[]): T => {
      const item = items[below(items.length)]
      if (item === undefined) throw new Error('nothing to pick from')
      return item
    },
  }
}

export type Random = ReturnType<typeof seeded>
