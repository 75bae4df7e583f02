/** The check of imports sees them all: where one runs upwards or round in a circle, it says so. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { cruise, type IConfiguration, type ICruiseResult } from 'dependency-cruiser'
import { expect, it, onTestFinished } from 'vitest'

const ROOT = join(import.meta.dirname, '../..')
const { forbidden = [], options } = (await import(join(ROOT, 'tools/floor-plan.mjs'))).default as IConfiguration

const HOUSE = {
  'util/clock.ts': 'export const now = (): number => performance.now()',
  'wire/message.ts': 'export interface Message { id: number }',
  'backend/backend.ts': "import type { Message } from '../wire/message.js'\nexport type Event = Message",
  'backend/redis.ts': "import type { Event } from './backend.js'\nexport const redis = (): Event[] => []",
  'session/sessions.ts': "import type { Event } from '../backend/backend.js'\nexport type Sessions = Event[]",
  'options.ts':
    "import type { Sessions } from './session/sessions.js'\nexport interface Options { sessions: Sessions }",
  'index.ts': "export type { Options } from './options.js'",
}

it('has nothing to say about imports that run downwards', async () => {
  expect(await violations({})).toEqual([])
})

it.each([
  ['an import', "import { x } from '../options.js'"],
  ['an import of types', "import type { Options } from '../options.js'"],
  ['an import whose names are types', "import { type Options } from '../options.js'"],
  ['an export of types', "export type { Options } from '../options.js'"],
  ['a type that is imported where it is used', "export type X = import('../options.js').Options"],
  ['an import at run time', "export const x = () => import('../options.js')"],
])('reports %s that runs upwards', async (_, code) => {
  expect(await violations({ 'wire/upwards.ts': code })).toEqual(['wire-imports-down: src/wire/upwards.ts'])
})

it('reports files of one room that import types of each other', async () => {
  const files = {
    'wire/a.ts': "import type { B } from './b.js'\nexport type A = B[]",
    'wire/b.ts': "import type { A } from './a.js'\nexport type B = A[]",
  }
  expect(await violations(files)).toEqual(['no-circles: src/wire/a.ts'])
})

it.each([
  [
    'a backend that knows another',
    'backend/sqlite/bus.ts',
    "import { redis } from '../redis.js'",
    'backend/redis-is-apart',
  ],
  [
    'a room that knows a backend',
    'session/live.ts',
    "import { redis } from '../backend/redis.js'",
    'backend/redis-is-apart',
  ],
  ['a package out of its room', 'session/live.ts', "import type { Command } from 'commander'", 'commander-in-cli'],
  ['a package with no room', 'session/live.ts', "import { z } from 'zod'", 'no-other-package'],
  ['a room that is to import nothing', 'util/error.ts', "import { inspect } from 'node:util'", 'util-is-bare'],
  ['a file without a room', 'misc.ts', 'export const x = 1', 'has-a-room'],
])('reports %s', async (_, file, code, name) => {
  expect(await violations({ [file]: code })).toEqual([`${name}: src/${file}`])
})

/** What the check says of the house above with these files in it. */
async function violations(files: Record<string, string>): Promise<string[]> {
  const baseDir = mkdtempSync(join(tmpdir(), 'floor-plan-'))
  onTestFinished(() => rmSync(baseDir, { recursive: true }))
  for (const [file, code] of Object.entries({ ...HOUSE, ...files })) {
    const path = join(baseDir, 'src', file)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, code)
  }
  symlinkSync(join(ROOT, 'node_modules'), join(baseDir, 'node_modules'))
  const { output } = await cruise(['src'], { ...options, baseDir, validate: true, ruleSet: { forbidden } })
  return (output as ICruiseResult).summary.violations.map(({ rule, from }) => `${rule.name}: ${from}`)
}
