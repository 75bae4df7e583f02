/** `serve` with secrets that sign session ids: from the environment or a file, the same in each worker. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { urlDoor } from '../harness/door.js'
import { initialize, WireClient } from '../harness/wire-client.js'
import { runs } from './runs.js'
import { script, workersOf } from './served.js'

const [OURS, OLDER] = ['our-secret-', 'older-secret-'].map((text) => text.padEnd(32, 'x')) as [string, string]
const SIGNED = /^[\da-f-]{36}\.[\w-]{24}$/

const test = runs()
const env = (...secrets: string[]) => ({ env: { MCP_ROAM_SECRET: secrets.join(',') } })
const serving = (...flags: string[]) => {
  const backend = `sqlite:${join(test.folder, 'sessions.db')}`
  return ['serve', '--port', '0', '--backend', backend, ...flags, '--', ...script('tools')]
}
const secretFile = (text: string, mode = 0o600) => {
  const file = join(test.folder, 'secrets')
  writeFileSync(file, text, { mode })
  return file
}

/** A session of a client that opens a connection for each request, as other workers may accept it. */
async function session(url: string) {
  const at = urlDoor(url)
  const { status, sessionId = '' } = await initialize(at)
  expect(status).toBe(200)
  return { sessionId, ping: async (id = sessionId) => (await new WireClient(at, id).request('ping')).status }
}

it('all workers sign with the secret of the environment, and know forged ids; their children do not see it', async () => {
  const cli = test.run(serving('--workers', '2'), env(OURS))
  const url = await cli.ready()
  const { sessionId, ping } = await session(url)
  expect(sessionId).toMatch(SIGNED)
  const forged = sessionId.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'))
  const workers = await workersOf(cli.pid)
  expect(workers).toHaveLength(2)
  const signal = (pid: number, name: NodeJS.Signals) => process.kill(pid, name)
  onTestFinished(() => workers.forEach((pid) => void signal(pid, 'SIGCONT')))
  for (const stopped of workers) {
    // The other one has to answer.
    signal(stopped, 'SIGSTOP')
    expect((await session(url)).sessionId).toMatch(SIGNED)
    expect([await ping(), await ping(forged)]).toEqual([200, 404])
    signal(stopped, 'SIGCONT')
  }
  const client = await test.connect(url)
  expect(await client.call('env')).not.toMatch(/MCP_ROAM_SECRET|our-secret/)
  expect(cli.log).not.toContain(OURS)
})

it('a file has them one in a line: the first signs, any verifies', async () => {
  const before = test.run(serving('--secret-file', secretFile(`${OLDER}\n`)))
  const old = await session(await before.ready())
  const after = test.run(serving('--secret-file', secretFile(`${OURS}\n\n${OLDER}\n`)))
  const url = await after.ready()
  const fresh = await session(url)
  expect(await fresh.ping(old.sessionId)).toBe(200)
  expect(await old.ping(fresh.sessionId)).toBe(404)
  expect(after.log).not.toMatch(/secret-|WARNING/)
})

it('warns of a file that other users can read', async () => {
  const cli = test.run(serving('--secret-file', secretFile(OURS, 0o644)))
  await cli.ready()
  expect(cli.log).toMatch(/WARNING: other users can read \S+\/secrets: chmod 600 it/)
})

describe('what cannot be right ends the command, and is not shown', () => {
  const short = 'a-short-secret'
  it.each<[string, () => string[], object, RegExp]>([
    ['one that is too short', () => [], env(OURS, short), /MCP_ROAM_SECRET: secret must have at least 32 characters/],
    ['an empty file', () => ['--secret-file', secretFile('\n')], {}, /\/secrets: secret must have .* at least one/],
    ['no file', () => ['--secret-file', '/nowhere'], {}, /cannot read \/nowhere: ENOENT/],
    ['both places', () => ['--secret-file', '/nowhere'], env(OURS), /both MCP_ROAM_SECRET and --secret-file/],
    ['handed to the child', () => ['--env', 'MCP_ROAM_SECRET'], env(OURS), /--env .* is not to know/],
    ['keys handed to the child', () => ['--env', 'MCP_ROAM_ENCRYPTION_KEYS=x'], {}, /--env .* is not to know/],
  ])('%s', async (_, flags, options, says) => {
    const ended = await test.ends(serving(...flags()), options)
    expect(ended).toMatchObject({ code: 2, says: expect.stringMatching(says) })
    for (const secret of [short, OURS]) expect(ended.says).not.toContain(secret)
  })
})
