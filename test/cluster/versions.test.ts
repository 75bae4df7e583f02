/**
 * Nodes of several releases on one backend. The record's next format is not known yet, so the releases are made here: this
 * source, built with what it reads and what it writes changed.
 */
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import type { SessionHandler } from '../../src/index.js'
import { scripted } from '../harness/scripted-server.js'
import { openSession } from '../harness/wire-client.js'
import { discard, scratch } from '../services/children.js'

const ROOT = join(import.meta.dirname, '../..')

/** What differs between releases, file by file, as text that is there once. Version 2 is a record that is encrypted. */
const READS_NEXT = { 'backend/record.js': ['version !== 1', 'version !== 1 && version !== 3'] } as const
const WRITES_NEXT = { 'session/builder.js': ['version: 1,', "version: 3, added: 'by the next release',"] } as const

interface Release {
  index: typeof import('../../src/index.js')
  sqlite: typeof import('../../src/backend/sqlite.js').sqlite
}

const folders: string[] = []
let current: Release
let reading: Release
let writing: Release

beforeAll(async () => {
  current = await release({})
  reading = await release(READS_NEXT)
  writing = await release({ ...READS_NEXT, ...WRITES_NEXT })
})
afterAll(() => {
  for (const folder of folders) discard(folder)
})

async function release(changes: Record<string, readonly [string, string]>): Promise<Release> {
  const folder = scratch()
  folders.push(folder)
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  const entryPoints = sources.filter((path) => path.endsWith('.ts')).map((path) => join(ROOT, 'src', path))
  await build({ entryPoints, outdir: join(folder, 'dist'), format: 'esm', target: 'node20', logLevel: 'silent' })
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  for (const [path, [before, after]] of Object.entries(changes)) {
    const file = join(folder, 'dist', path)
    const parts = readFileSync(file, 'utf8').split(before)
    expect(parts, `${before} in ${path}`).toHaveLength(2)
    writeFileSync(file, parts.join(after))
  }
  const load = (path: string) => import(/* @vite-ignore */ pathToFileURL(join(folder, 'dist', path)).href)
  return { index: await load('index.js'), sqlite: (await load('backend/sqlite.js')).sqlite }
}

/** A node of each of the releases, on one file. */
function cluster(...releases: Release[]) {
  const folder = scratch()
  const file = join(folder, 'sessions.db')
  const onerror = vi.fn((_: Error) => {})
  const nodes = releases.map(
    ({ index, sqlite }): SessionHandler =>
      index.createSessionHandler(scripted(), { backend: sqlite({ file }), onerror }),
  )
  const reader = current.sqlite({ file })
  onTestFinished(async () => {
    await Promise.all([...nodes, reader].map((each) => each.close()))
    discard(folder)
  })
  return {
    nodes: nodes as [SessionHandler, SessionHandler],
    load: async (id: string) => (await reader.sessions.load(id))?.record,
    onerror,
  }
}

test.each([
  ['that write the same format', () => [current, reading] as const, 1],
  ['the later of which writes the next format', () => [reading, writing] as const, 3],
])('two releases side by side %s serve each other’s sessions', async (_, releases, later) => {
  const { nodes, load } = cluster(...releases())
  for (const [made, version] of [
    [nodes[0], 1],
    [nodes[1], later],
  ] as const) {
    const client = await openSession(made)
    const other = client.at(made === nodes[0] ? nodes[1] : nodes[0])
    expect(await load(client.sessionId)).toMatchObject({ version })
    expect((await other.request('tools/list')).status).toBe(200)
    expect((await other.request('logging/setLevel', { level: 'debug' })).status).toBe(200)
    expect((await client.request('resources/subscribe', { uri: 'test://a' })).status).toBe(200)
    const stored = await load(client.sessionId)
    expect(stored).toMatchObject({ version, journal: { setLevel: { level: 'debug' }, subscriptions: ['test://a'] } })
    // What a release knows nothing of stays as it is.
    if (version === 3) expect(stored).toMatchObject({ added: 'by the next release' })
    expect((await other.delete()).status).toBe(200)
    expect((await client.request('ping')).status).toBe(404)
  }
})

test('a release that is behind by two answers 503, tells why, and changes nothing', async () => {
  const {
    nodes: [old, next],
    load,
    onerror,
  } = cluster(current, writing)
  const client = await openSession(next)
  const before = await load(client.sessionId)
  const behind = client.at(old)
  expect((await behind.request('ping')).status).toBe(503)
  expect((await behind.get()).status).toBe(503)
  expect((await behind.delete()).status).toBe(503)
  expect(onerror.mock.calls.map(([{ message }]) => message)).toContainEqual(
    'the record is of version 3, which is not known here',
  )
  expect(await load(client.sessionId)).toEqual(before)
  expect((await client.request('ping')).status).toBe(200)
  const mine = await openSession(old)
  expect((await mine.at(next).request('ping')).status).toBe(200)
})
