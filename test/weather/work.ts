/** What keeps clients busy: calls, numbered notifications, and visitors whose sessions are deleted. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Work } from '../chaos/tools.js'
import type { Random } from '../harness/random.js'
import { type Caller, numbered } from './caller.js'
import type { Log } from './log.js'
import { REVISIONS, WireCaller } from './wire-caller.js'

/** Longest wait for a node to say that it has stored a notification, in ms. */
const NOTIFY_PATIENCE = 15_000

/** A call takes a second at most: ten reports of its progress. */
const work = (random: Random): Work => ({ key: randomUUID(), steps: 10, ms: random.between(20, 100) })

/** Calls of all kinds, one after the other, until it is over. */
export async function callOn(caller: Caller, random: Random, over: () => boolean): Promise<void> {
  while (!over()) {
    await caller.call(random.pick(caller.tools), work(random))
    await delay(random.between(200, 800))
  }
}

/** How long it takes from now until a call of the client's succeeds, in ms; it does not care for `Retry-After`. */
export async function untilServed(caller: Caller, over: () => boolean): Promise<number> {
  const begun = performance.now()
  while (!over()) {
    const { outcome } = await caller.call('short', { key: randomUUID(), steps: 0, ms: 0 })
    if (outcome === 'ok') break
    await delay(100)
  }
  return Math.round(performance.now() - begun)
}

/** Sends numbers to the caller's session, each through another node, and the next one when the one before is stored. */
export async function count(url: string, { name, sessionId, numbers }: Caller, log: Log, over: () => boolean) {
  for (let number = 1; !over(); number++) {
    const to = new URL('/notify', url)
    to.search = new URLSearchParams({ session: sessionId, text: numbered(number) }).toString()
    try {
      const response = await fetch(to, { method: 'POST', signal: AbortSignal.timeout(NOTIFY_PATIENCE) })
      const told = await response.text()
      if (response.status === 200) {
        numbers.sure.set(number, log.now)
        if (told !== 'true') log.fault(`${name}: a notification found no session (${told})`)
      } else numbers.unsure.add(number)
    } catch {
      numbers.unsure.add(number)
    }
    await delay(500)
  }
}

export interface Grave {
  caller: WireCaller
  /** When the DELETE was answered, in ms since the cell began. */
  since: number
  /** When it was last served all the same; undefined: never. */
  served: number | undefined
  /** It has a stream that goes on. */
  haunted: boolean
}

/** Sessions that were deleted, and must stay so. */
export class Graveyard {
  readonly graves: Grave[] = []

  constructor(
    private readonly url: string,
    private readonly log: Log,
  ) {}

  /** Opens a session, calls, deletes it, and asks for some that were deleted before; again and again until it is over. */
  async visit(random: Random, over: () => boolean): Promise<void> {
    for (let visit = 1; !over(); visit++) {
      const name = `visitor-${visit}-${random.below(1000)}`
      const caller = await WireCaller.connect(this.url, random.pick(REVISIONS), name, this.log)
      await caller.call(random.pick(caller.tools), work(random))
      if (random.chance(0.75) && (await caller.delete())) {
        const grave: Grave = { caller, since: this.log.now, served: undefined, haunted: true }
        this.graves.push(grave)
        void caller.gone.then(() => {
          grave.haunted = false
        })
      } else await caller.close()
      for (let i = 0; i < 2 && this.graves.length > 0; i++) await this.#look(random.pick(this.graves))
      await delay(random.between(300, 1000))
    }
  }

  /** Asks for each of them, until it is told that it is gone, or not, and its stream has ended. */
  async lookAtAll(over: () => boolean): Promise<void> {
    const ask = async (grave: Grave) => {
      while (!over() && (!(await this.#look(grave)) || grave.haunted)) await delay(500)
    }
    await Promise.all(this.graves.map(ask))
  }

  /** Whether it was said to be gone. */
  async #look(grave: Grave): Promise<boolean> {
    const status = await grave.caller.ping()
    if (status === 200) grave.served = this.log.now
    return status === 404
  }
}
