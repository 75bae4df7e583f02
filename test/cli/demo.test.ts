import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { until, within } from '../harness/within.js'
import { describeWith, postgresUrl, redisUrl } from '../services/use.js'
import { isAlive } from './served.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
let temp: string

beforeAll(() => {
  if (!existsSync(join(root, 'dist/index.js'))) throw new Error('the demo runs what was built: npm run build')
})

beforeEach(() => {
  temp = mkdtempSync(join(tmpdir(), 'mcp-roam-demo-test-'))
})

afterEach(() => rmSync(temp, { recursive: true, force: true }))

/** What the demo prints, and its exit code. */
async function demo(...args: string[]) {
  const child = spawn(process.execPath, ['--import', 'tsx', join(root, 'demo/run.ts'), ...args], {
    cwd: root,
    env: { ...process.env, TMPDIR: temp },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let printed = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      printed += text
    })
  }
  try {
    const [code] = (await within(once(child, 'close'), 'the end of the demo', 60_000)) as [number]
    return { code, printed }
  } finally {
    child.kill('SIGKILL')
  }
}

const SURVIVED = /The session survived \d+ kills\.\n$/

/** Its summary says that all went well. */
function expectSurvival({ code, printed }: { code: number; printed: string }): void {
  expect(printed).toMatch(SURVIVED)
  expect(code).toBe(0)
  const id = /session before +(\S+)/.exec(printed)?.[1]
  expect(printed).toMatch(new RegExp(`session after +${id} +the same`))
  expect(printed).toMatch(/calls hung +0\n/)
  expect(printed).toMatch(/served by +A \d+ {2}B \d+ {2}C \d+ /)
  // Begun and finished by nodes, which differ in their process ids.
  expect(printed).toMatch(
    /long call +\S+ s +begun by [ABC] \((\d+)\), which was killed; finished by [ABC] \((?!\1)\d+\)\n/,
  )
  expect(printed).not.toMatch(/Warning/)
}

it('ends by itself with a summary: the same session, no call hung, nothing left behind', {
  timeout: 70_000,
}, async () => {
  const { code, printed } = await demo()
  expectSurvival({ code, printed })
  expect(printed).not.toContain('\u001b')
  // tsx keeps its cache there.
  expect(readdirSync(temp).filter((name) => name.startsWith('mcp-roam'))).toEqual([])
  const kills = [...printed.matchAll(/ ([ABC]) +(\d+) -> (\d+) /g)]
  expect(kills.slice(0, 3).map(([, node]) => node)).toEqual(['A', 'B', 'C'])
  expect(kills).toHaveLength(4)
  const pids = kills.flatMap(([, , killed, started]) => [Number(killed), Number(started)])
  await until(() => !pids.some(isAlive))
})

it('says so and fails when the session is lost', { timeout: 70_000 }, async () => {
  const { code, printed } = await demo('--backend', 'memory:')
  expect(printed).toMatch(/The session is lost: a node answered 404\.\n$/)
  expect(code).toBe(1)
})

it('shows no password when it cannot connect', { timeout: 70_000 }, async () => {
  const { code, printed } = await demo('--backend', 'redis://me:secret@127.0.0.1:1')
  expect(code).toBe(1)
  expect(printed).toContain('ECONNREFUSED')
  expect(printed).not.toContain('secret')
})

describeWith('on Redis', await redisUrl(), (url) => {
  it('survives as well', { timeout: 70_000 }, async () => {
    expectSurvival(await demo('--backend', url))
  })
})

describeWith('on PostgreSQL', await postgresUrl(), (url) => {
  it('survives as well', { timeout: 70_000 }, async () => {
    expectSurvival(await demo('--backend', url))
  })
})
