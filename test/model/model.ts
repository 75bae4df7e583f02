/** What may be known of a cluster: its clients, and what is wrong. */
import fc from 'fast-check'
import { Client } from './client.js'
import { IDLE_TTL } from './lifetime.js'
import { Trouble } from './trouble.js'
import { World } from './world.js'

export interface Setup {
  seed: number
  /** 0: an instance is dropped as soon as nothing runs on it. */
  liveIdle: number
  maxLiveSessions: number
  upgradeAfter: number
  responseMode: 'auto' | 'sse'
  versions: [string, string]
}

export const setups: fc.Arbitrary<Setup> = fc.record({
  seed: fc.noShrink(fc.nat()),
  liveIdle: fc.constantFrom(20_000, 0, 3000),
  maxLiveSessions: fc.constantFrom(10, 2),
  upgradeAfter: fc.constantFrom(100, 0, 10),
  responseMode: fc.constantFrom('auto', 'sse'),
  versions: fc.constantFrom<[string, string]>(
    ['2025-11-25', '2025-11-25'],
    ['2025-11-25', '2025-06-18'],
    ['2025-06-18', '2025-11-25'],
  ),
})

export class Model {
  readonly clients: Client[]
  readonly violations: string[] = []
  readonly trouble: Trouble
  /** Everything that was done, for those who compare two runs. */
  readonly trace: string[] = []

  constructor(
    setup: Setup,
    readonly world: World,
  ) {
    this.trouble = new Trouble(world)
    const violate = (what: string) => void this.violations.push(`+${world.clock.now - this.#start} ms: ${what}`)
    this.clients = setup.versions.map(
      (version, index) =>
        new Client('ab'[index] as string, version, world, this.trouble, (what) =>
          violate(`client ${'ab'[index]}: ${what}`),
        ),
    )
    this.#start = world.clock.now
  }

  readonly #start: number

  look(): void {
    this.trouble.look()
    for (const client of this.clients) client.look()
  }

  check(): void {
    if (this.violations.length > 0) throw new Error(this.violations.join('\n'))
  }

  /** Lets time pass while clients look on. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 2000) {
      this.look()
      await this.world.clock.pass(Math.min(left, 2000))
    }
    this.look()
    this.trace.push(
      this.clients
        .map((one) =>
          [one.calls.map((call) => `${call.progress}${call.over}`), one.told.size, one.life.deletedAt].join(),
        )
        .join(';'),
    )
    this.check()
  }
}

export function begin(setup: Setup): { model: Model; real: World } {
  const { liveIdle, maxLiveSessions, upgradeAfter, responseMode, seed } = setup
  const world = new World({
    seed,
    handler: {
      liveIdle,
      maxLiveSessions,
      upgradeAfter,
      responseMode,
      idleTtl: IDLE_TTL,
      backendTimeout: 1000,
      retryInterval: 0,
    },
  })
  const model = new Model(setup, world)
  return { model, real: world }
}
