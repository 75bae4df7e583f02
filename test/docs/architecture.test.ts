/** ARCHITECTURE.md says what is: its journeys are those of a real run, and the files that it names are there. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT, read, tableAfter } from './blocks.js'

const PAGE = 'ARCHITECTURE.md'

describe('the journeys', () => {
  const run = execFileSync(process.execPath, [join(ROOT, 'test/docs/journeys/run.mjs')], { encoding: 'utf8' })
  const traces = Object.entries(JSON.parse(run) as Record<string, string[]>)

  it.each(traces)('%s passes the files that are listed, in that order', (name, trace) => {
    const section = read(PAGE).split(`\n### ${name}\n`)[1]?.split(/\n##/)[0] ?? ''
    // what comes first in each step; what else a step names is beside the way
    const listed = [...section.matchAll(/^\d+\. `([^`]+)`/gm)].map(([, file = '']) => file)
    expect(listed.length).toBeGreaterThan(5)
    expect(listed.filter((file) => !trace.includes(file))).toEqual([])
    expect([...listed].sort((one, other) => trace.indexOf(one) - trace.indexOf(other))).toEqual(listed)
  })
})

it('each file that it names is there', () => {
  const files = [...read(PAGE).matchAll(/`(src\/[\w./-]+)`/g)].map(([, file = '']) => file)
  expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([])
})

it('to change something, there is one file to start in', () => {
  for (const [what, where = ''] of tableAfter(PAGE, '## To change something')) {
    expect(where, what).toMatch(/^`src\/[\w./-]+`/)
  }
})
