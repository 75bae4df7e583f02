/** Bounded waiting, for what tells nobody when it happens. */
import { setTimeout as delay } from 'node:timers/promises'

/** Asks until the answer is yes; throws when it is not in time. */
export async function waitFor(condition: () => boolean | Promise<boolean>, ms = 5_000): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${condition}`)
    await delay(10)
  }
}
