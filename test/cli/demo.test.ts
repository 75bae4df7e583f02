import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { within } from '../harness/within.js'
import { isAlive } from './served.js'
import { waitFor } from './wait.js'

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

it('ends by itself with a summary: the same session, no call hung, nothing left behind', {
  timeout: 70_000,
}, async () => {
  const { code, printed } = await demo()
  expect(printed).toMatch(/The session survived \d+ kills\.\n$/)
  expect(code).toBe(0)
  const id = /session before +(\S+)/.exec(printed)?.[1]
  expect(printed).toMatch(new RegExp(`session after +${id} +the same`))
  expect(printed).toMatch(/calls hung +0\n/)
  expect(printed).toMatch(/long call +\S+ s +begun by (\d+), which was killed; finished by (?!\1)\d+\n/)
  expect(printed).not.toContain('\u001b')
  // tsx keeps its cache there.
  expect(readdirSync(temp).filter((name) => name.startsWith('mcp-roam'))).toEqual([])
  const pids = [...printed.matchAll(/(\d+) -> (\d+) /g)].flatMap(([, killed, started]) => [
    Number(killed),
    Number(started),
  ])
  expect(pids.length).toBeGreaterThan(4)
  await waitFor(() => !pids.some(isAlive))
})

it('says so and fails when the session is lost', { timeout: 70_000 }, async () => {
  const { code, printed } = await demo('--backend', 'memory:')
  expect(printed).toMatch(/The session is lost: the server answered 404\.\n$/)
  expect(code).toBe(1)
})
