/**
 * Child processes and temp folders that cannot outlive the process that made them, however it ends: a keeper (a detached
 * shell) reads from a pipe what is there to clean up, and does it when the pipe closes, which also SIGKILL brings about.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'

// SIGINT is what both Redis and PostgreSQL take for "finish now and tidy up".
const KEEPER = `
trap '' INT TERM HUP
pids=
while read -r verb what; do
  case $verb in
    kill) pids="$pids $what" ;;
    spare) rest=; for p in $pids; do [ "$p" = "$what" ] || rest="$rest $p"; done; pids=$rest ;;
    remove) set -- "$@" "$what" ;;
  esac
done
for p in $pids; do kill -INT "$p"; kill -CONT "$p"; done
n=0
while [ $n -lt 20 ]; do
  left=; for p in $pids; do kill -0 "$p" && left=1; done
  [ -z "$left" ] && break
  n=$((n + 1)); sleep 0.1
done
for p in $pids; do kill -KILL "$p"; done
[ $# -gt 0 ] && rm -rf -- "$@"
`

let keeper: Writable | undefined

function tellKeeper(line: string): void {
  if (!keeper) {
    const shell = spawn('/bin/sh', ['-c', KEEPER, 'keeper'], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    shell.unref()
    // Without this the pipe alone would keep a finished test worker alive.
    if (isSocket(shell.stdin)) shell.stdin.unref()
    shell.stdin.on('error', () => {})
    keeper = shell.stdin
  }
  keeper.write(`${line}\n`)
}

function isSocket(stream: Writable): stream is Socket {
  return 'unref' in stream
}

/** Has the path deleted when this process is gone, if nobody did it before. */
export function removeAtExit(path: string): void {
  tellKeeper(`remove ${path}`)
}

/** A new temp folder. The caller removes it; failing that, the keeper does. */
export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'mcp-roam-test-'))
  removeAtExit(folder)
  return folder
}

export function discard(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}

export interface LaunchOptions {
  /** What the program prints goes here, from the beginning. */
  log: string
  cwd: string
  user?: { uid: number; gid: number } | undefined
}

/** A running program and the processes it forked. */
export class Child {
  readonly pid: number
  /** Resolves when the program has ended. */
  readonly ended: Promise<void>
  running = true
  #stopped: number[] = []

  constructor(program: string, args: string[], options: LaunchOptions) {
    const log = openSync(options.log, 'w')
    const child = spawn(program, args, { cwd: options.cwd, stdio: ['ignore', log, log], ...options.user })
    closeSync(log)
    this.pid = child.pid ?? 0
    this.ended = new Promise((resolve) => {
      const end = () => {
        this.running = false
        tellKeeper(`spare ${this.pid}`)
        resolve()
      }
      child.once('exit', end)
      child.once('error', end)
    })
    if (this.pid) tellKeeper(`kill ${this.pid}`)
    child.unref()
  }

  /** Freezes it: connections stay open, nothing answers. */
  pause(): void {
    if (!this.running) return
    this.#stopped = [this.pid, ...descendants(this.pid)]
    for (const pid of this.#stopped) {
      // A frozen grandchild would survive the death of its parent.
      if (pid !== this.pid) tellKeeper(`kill ${pid}`)
      send(pid, 'SIGSTOP')
    }
  }

  resume(): void {
    for (const pid of this.#stopped) {
      if (pid !== this.pid) tellKeeper(`spare ${pid}`)
      send(pid, 'SIGCONT')
    }
    this.#stopped = []
  }

  /** Ends it the orderly way, in at most a few seconds. */
  async stop(): Promise<void> {
    this.resume()
    if (!this.running) return
    send(this.pid, 'SIGINT')
    const patience = new AbortController()
    await Promise.race([this.ended, delay(5_000, undefined, { signal: patience.signal }).catch(() => {})])
    patience.abort()
    if (this.running) await this.kill()
  }

  /** Ends it and what it forked as a power cut would. */
  async kill(): Promise<void> {
    if (!this.running) return
    for (const pid of [this.pid, ...descendants(this.pid)]) send(pid, 'SIGKILL')
    this.resume()
    await this.ended
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended already.
  }
}

function descendants(root: number): number[] {
  const children = new Map<number, number[]>()
  for (const [pid, parent] of processes()) children.set(parent, [...(children.get(parent) ?? []), pid])
  const found: number[] = []
  const visit = (pid: number) => {
    for (const child of children.get(pid) ?? []) {
      found.push(child)
      visit(child)
    }
  }
  visit(root)
  return found
}

/** Every process as [id, parent's id]; from /proc where there is one, because slim images lack `ps`. */
function processes(): [number, number][] {
  if (process.platform !== 'linux') {
    const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' })
    return table.split('\n').map((line) => {
      const [pid, parent] = line.trim().split(/\s+/)
      return [Number(pid), Number(parent)]
    })
  }
  const found: [number, number][] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8')
      // The name in parentheses may hold anything; what follows the last one is "state parent …".
      const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]
      found.push([Number(entry), Number(parent)])
    } catch {
      // It ended while we were looking.
    }
  }
  return found
}

/** Ports of the loopback interface that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  return Promise.all(
    servers.map(async (server) => {
      const address = server.address()
      if (address === null || typeof address === 'string') throw new Error('not a TCP address')
      server.close()
      await once(server, 'close')
      return address.port
    }),
  )
}

/** Asks until the answer is yes; throws with the program's output when it ends or the time is up. */
export async function untilReady(child: Child, log: string, ready: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 30_000
  while (!(await ready())) {
    if (!child.running || Date.now() > deadline) {
      await child.kill()
      throw new Error(`did not come up: ${readFileSync(log, 'utf8').slice(-2_000).trim() || '(no output)'}`)
    }
    await delay(25)
  }
}

/** Runs an attempt again when it failed, because a port that was free may have been taken since. */
export async function withRetries<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = 2; ; left--) {
    try {
      return await attempt()
    } catch (error) {
      if (left === 0) throw error
    }
  }
}

/** A server of a test's own, which the test may hurt. */
export interface PrivateServer {
  url: string
  /** Ends it in an orderly way and removes its files. */
  stop(): Promise<void>
  /** Freezes it: connections stay open, nothing answers. */
  pause(): void
  resume(): void
  /** Ends it as a power cut would; its files stay for `restart`. */
  kill(): Promise<void>
  /** Ends it if it runs and starts it again on the same port with the same data. */
  restart(): Promise<void>
}
