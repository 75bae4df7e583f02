/** `serve` and `sessions` with keys: from the environment or a file, never from the command line. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { K1, K2 } from '../backend/sealed/keys.js'
import { runs } from './runs.js'
import { EVERYTHING, script } from './served.js'

const test = runs()
const file = () => join(test.folder, 'sessions.db')
const backend = () => ['--backend', `sqlite:${file()}`]
const env = (...keys: string[]) => ({ env: { MCP_ROAM_ENCRYPTION_KEYS: keys.join(',') } })
const sessions = (args: string[], options = {}) => test.ends(['sessions', ...args, ...backend()], options)

it('serve encrypts with the keys of the environment, in each worker, and its children do not see them', async () => {
  const cli = test.run(['serve', '--port', '0', '--workers', '2', ...backend(), '--', ...EVERYTHING], env(K1))
  const client = await test.connect(await cli.ready())
  for (let n = 0; n < 6; n++) await client.call('echo', { message: 'hello' })
  expect(await client.call('get-env')).not.toContain(K1)
  const stored = ['', '-wal'].map((suffix) => readFileSync(file() + suffix, 'latin1')).join('')
  expect(stored).toContain('mcp-roam:1:')
  expect(stored).not.toContain('client-v1')
  expect(cli.log).not.toContain(K1)
})

it('serve warns if others can read the file', async () => {
  const keys = join(test.folder, 'keys')
  writeFileSync(keys, K1, { mode: 0o644 })
  const args = ['serve', '--port', '0', '--encryption-keys-file', keys, ...backend(), '--', ...script('tools')]
  const open = test.run(args)
  await open.ready()
  expect(open.log).toMatch(/WARNING: other users can read \S+\/keys: chmod 600 it/)
  await open.kill()
  chmodSync(keys, 0o640)
  const closed = test.run(args)
  await closed.ready()
  expect(closed.log).not.toContain('WARNING')
})

it('sessions without the keys: what is in the open is shown, and a session can be ended', {
  timeout: 60_000,
}, async () => {
  const keys = join(test.folder, 'keys')
  writeFileSync(keys, `${K1}\n${K2}\n`)
  const args = ['serve', '--port', '0', '--encryption-keys-file', keys, ...backend(), '--', ...script('tools')]
  const cli = test.run(args)
  const client = await test.connect(await cli.ready())
  const id = client.sessionId() as string

  const closed = await sessions(['list'])
  expect(closed.code).toBe(0)
  expect(closed.stdout).toMatch(new RegExp(`^${id}  \\(unreadable\\) +- +\\d{4}-\\d\\d-\\d\\dT\\S+Z +-$`, 'm'))
  const json = JSON.parse((await sessions(['list', '--json'])).stdout)
  expect(json).toEqual({
    id,
    createdAt: expect.stringMatching(/^\d{4}-/),
    unreadable: expect.stringMatching(/with key/),
  })
  expect(await sessions(['show', id])).toMatchObject({
    code: 1,
    says: expect.stringMatching(/^mcp-roam: a session record is encrypted with key [\w-]{8}, which is not among/),
  })

  for (const opened of [
    await sessions(['list'], env(K2, K1)),
    await sessions(['list', '--encryption-keys-file', keys]),
  ]) {
    expect(opened.stdout).toMatch(new RegExp(`^${id}  client-v1`, 'm'))
  }
  expect((await sessions(['show', id], env(K1))).stdout).toContain('client-v1')

  expect(await sessions(['delete', id])).toMatchObject({ code: 0, stdout: `deleted ${id}\n` })
  await expect(client.call('pid')).rejects.toThrow(/404|not found/i)
  expect((await sessions(['show', id])).says).toBe(`mcp-roam: no such session: ${id}`)
})

describe('keys that cannot be right end the command, and are not shown', () => {
  const wrong = 'd3Jvbmcga2V5'
  it.each<[string, () => string[], () => object, RegExp]>([
    [
      'in the environment',
      () => [],
      () => env(K1, wrong),
      /^mcp-roam: MCP_ROAM_ENCRYPTION_KEYS: .*`keys\[1\]` must be/,
    ],
    ['in both places', () => ['--encryption-keys-file', '/nowhere'], () => env(K1), /give one of the two/],
    ['in the environment, empty', () => [], () => env(''), /^mcp-roam: MCP_ROAM_ENCRYPTION_KEYS: .*has no key/],
    ['in no file', () => ['--encryption-keys-file', '/nowhere'], () => ({}), /cannot read \/nowhere: ENOENT/],
  ])('%s', async (_, flags, options, says) => {
    for (const command of [
      ['serve', ...backend(), ...flags(), '--', ...script('tools')],
      ['sessions', 'list', ...backend(), ...flags()],
    ]) {
      const ended = await test.ends(command, options())
      expect(ended).toMatchObject({ code: 2, says: expect.stringMatching(says) })
      expect(ended.says).not.toMatch(wrong)
    }
  })
})
