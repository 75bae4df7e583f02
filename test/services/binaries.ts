/** Where the servers' programs are; installs them when nobody else can and we may. */
import { execFile } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { removeAtExit } from './children.js'

const run = promisify(execFile)

export type Program = 'redis' | 'postgres' | 'chromium'

/** Redis: the path of the server. Chromium: that of the browser. PostgreSQL: the folder with `postgres` and `initdb`. Undefined: not installed. */
function find(program: Program): string | undefined {
  if (program === 'redis') return onPath('redis-server') ?? onPath('valkey-server')
  if (program === 'chromium') return onPath('chromium') ?? onPath('google-chrome')
  const folders = ['/usr/lib/postgresql', '/usr/lib64/postgresql'].flatMap((root) => versions(root))
  // What is on the path may be a link into the folder that we want, or a wrapper that does not help.
  const linked = onPath('postgres')
  if (linked) folders.push(dirname(realpathSync(linked)))
  return folders.find((folder) => isProgram(join(folder, 'postgres')) && isProgram(join(folder, 'initdb')))
}

/** Folders like /usr/lib/postgresql/15/bin, newest first. */
function versions(root: string): string[] {
  if (!existsSync(root)) return []
  const numbers = readdirSync(root).sort((a, b) => Number(b) - Number(a))
  return numbers.map((version) => join(root, version, 'bin'))
}

function onPath(name: string): string | undefined {
  // Debian keeps servers where only root's path looks.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  return folders.map((folder) => join(folder, name)).find(isProgram)
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const PACKAGES: Record<Program, string> = { redis: 'redis-server', postgres: 'postgresql', chromium: 'chromium' }

const NAMES: Record<Program, string> = {
  redis: 'redis-server (7 or later)',
  postgres: 'PostgreSQL',
  chromium: 'chromium, or Google Chrome',
}

let installing: Promise<unknown> = Promise.resolve()
const found = new Map<Program, Promise<string>>()

/** Finds the program, installing it if need be. Rejects with what the user can do. */
export function binary(program: Program): Promise<string> {
  const known = found.get(program) ?? locate(program)
  found.set(program, known)
  return known
}

async function locate(program: Program): Promise<string> {
  const here = find(program)
  if (here) return here
  const advice = `install ${NAMES[program]}`
  if (process.getuid?.() !== 0 || !isProgram('/usr/bin/apt-get')) throw new Error(`not found: ${advice}`)
  // One apt-get at a time.
  const turn = installing.then(() => install(PACKAGES[program]))
  installing = turn.catch(() => {})
  await turn
  const installed = find(program)
  if (!installed) throw new Error(`not found, even after installing it: ${advice}`)
  return installed
}

let updated: Promise<unknown> | undefined

async function install(name: string): Promise<void> {
  process.stderr.write(`tests: installing the Debian package ${name}\n`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const options = { env, maxBuffer: 64 * 1024 * 1024 }
  // An outdated package list often still serves, so a failure here is only told if the installation fails too.
  updated ??= run('apt-get', ['update'], options).catch((error: unknown) => error)
  const trouble = await updated
  const allow = forbidServiceStarts()
  try {
    await run('apt-get', ['install', '-y', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=300', name], options)
    // Neither at the next boot.
    if (existsSync('/run/systemd/system')) await run('systemctl', ['disable', '--now', name]).catch(() => {})
  } catch (error) {
    const messages = [trouble, error].filter((e) => e instanceof Error).map((e) => e.message)
    throw new Error(`apt-get could not install ${name}: ${messages.join('; ')}`)
  } finally {
    allow()
  }
}

/** Debian starts a service when its package is installed unless this file says no. Returns the way back. */
function forbidServiceStarts(): () => void {
  const policy = '/usr/sbin/policy-rc.d'
  if (existsSync(policy)) return () => {}
  removeAtExit(policy)
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  return () => rmSync(policy, { force: true })
}
