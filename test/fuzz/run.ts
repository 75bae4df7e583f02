/** `npm run fuzz`: hostile exchanges by the million against a real process, and a table of what came of them. */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Sdk } from '../harness/server.js'
import { discard, scratch } from '../services/children.js'
import { fuzz } from './fuzz.js'
import type { StoreAddress } from './store.js'
import { Target } from './target.js'

const { values } = parseArgs({
  options: {
    exchanges: { type: 'string', default: '1000000' },
    seed: { type: 'string' },
    sdk: { type: 'string', default: 'v2' },
    backend: { type: 'string', default: 'memory' },
  },
})
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
const folder = scratch()

function address(backend: string): StoreAddress {
  if (backend === 'sqlite') return { kind: 'sqlite', file: join(folder, 'sessions.db') }
  if (/^rediss?:/.test(backend)) return { kind: 'redis', url: backend, prefix: `fuzz-${seed}:` }
  if (/^postgres(ql)?:/.test(backend)) return { kind: 'postgres', url: backend, schema: `fuzz_${seed}` }
  if (backend === 'memory') return { kind: 'memory' }
  throw new Error('--backend is memory, sqlite, redis://… or postgres://…')
}

const target = new Target(values.sdk as Sdk, address(values.backend))
const begun = performance.now()
try {
  await target.start()
  const { exchanges, outcomes, failures, weights } = await fuzz(target, {
    exchanges: Number(values.exchanges),
    seed,
    onprogress(done, { heap, resident, liveSessions, openStreams }) {
      const mib = (bytes: number) => Math.round(bytes / 2 ** 20)
      const seconds = Math.round((performance.now() - begun) / 1000)
      console.log(
        `${seconds} s: ${done} exchanges, heap ${mib(heap)} MiB, resident ${mib(resident)} MiB, ${liveSessions} live, ${openStreams} streams`,
      )
    },
  })
  console.table(outcomes)
  console.table(weights.at(-1)?.errors)
  for (const failure of failures) console.log(`! ${failure}`)
  console.log(`${exchanges} exchanges, seed ${seed}, ${failures.length} failures`)
  process.exitCode = failures.length > 0 ? 1 : 0
} finally {
  await target.stop()
  discard(folder)
}
