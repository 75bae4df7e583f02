/** A child process with pipes for stdin, stdout and stderr, which never outlives this process. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { within } from '../../util/within.js'
import { inheritedEnv } from './child-env.js'
import { startError } from './start-error.js'

export interface ChildProcessOptions {
  command: string
  args: readonly string[]
  env: Readonly<Record<string, string>>
  cwd: string | undefined
}

/** How long to wait for the last output of a child that has ended, in ms: a grandchild may hold the pipe open. */
const LAST_OUTPUT = 500

/** Children to kill when this process exits: not every server ends when its stdin does. */
const running = new Set<ChildProcess>()

function killRunning(): void {
  for (const child of running) child.signal('SIGKILL')
}

export class ChildProcess {
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /** Resolves when the process has ended and its output is read. */
  readonly ended: Promise<void>

  /** @throws Error if the command cannot be started; its message is for the user. */
  static async start({ command, args, env, cwd }: ChildProcessOptions): Promise<ChildProcess> {
    try {
      const child: ChildProcessByStdio<Writable, Readable, Readable> = spawn(command, args, {
        env: { ...inheritedEnv(), ...env },
        cwd,
        stdio: ['pipe', 'pipe', 'pipe'],
        shell: false,
        windowsHide: true,
        // A process group of its own: Ctrl-C makes this process finish its running calls, and must not end the children
        // that run them. It also lets a launcher such as npx be ended together with what it launched.
        detached: process.platform !== 'win32',
      })
      await once(child, 'spawn')
      return new ChildProcess(child)
    } catch (error) {
      throw startError(command, cwd, error as NodeJS.ErrnoException)
    }
  }

  private constructor(private readonly child: ChildProcessByStdio<Writable, Readable, Readable>) {
    this.stdin = child.stdin
    this.stdout = child.stdout
    this.stderr = child.stderr
    if (running.size === 0) process.on('exit', killRunning)
    running.add(this)
    child.once('exit', () => {
      running.delete(this)
      if (running.size === 0) process.off('exit', killRunning)
    })
    this.ended = new Promise((resolve) => {
      child.once('close', () => resolve())
      child.once('exit', () => {
        setTimeout(() => {
          child.stdout.destroy()
          child.stderr.destroy()
        }, LAST_OUTPUT).unref()
      })
    })
  }

  /** Calls the listener with errors that come up after the start. */
  onerror(listener: (error: Error) => void): void {
    this.child.on('error', listener)
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  /** The process id while it runs. */
  get pid(): number | undefined {
    return this.running ? this.child.pid : undefined
  }

  /** How an ended process has ended, e.g. `exit code 1` or `SIGKILL`. */
  get outcome(): string {
    const { exitCode, signalCode } = this.child
    return signalCode ?? `exit code ${exitCode}`
  }

  /** Sends a signal to the process and to what it started. */
  signal(name: NodeJS.Signals): void {
    const { pid } = this
    if (pid === undefined) return
    try {
      process.kill(process.platform === 'win32' ? pid : -pid, name)
    } catch {
      // It has just ended.
    }
  }

  /** Whether the process ends within `ms`. */
  endsWithin(ms: number): Promise<boolean> {
    return within(ms, this.ended).then(
      () => true,
      () => false,
    )
  }

  /**
   * Ends the process as 2025-11-25, basic/lifecycle, "Shutdown", has it: its stdin ends, then SIGTERM, then SIGKILL.
   * Resolves when it has ended.
   *
   * @param grace How long it gets each time, in ms.
   */
  async end(grace: number): Promise<void> {
    // What nobody reads any more must not keep the process from ending.
    this.stdout.resume()
    this.stdin.end()
    if (await this.endsWithin(grace)) return
    this.signal('SIGTERM')
    if (await this.endsWithin(grace)) return
    this.signal('SIGKILL')
    await this.ended
  }
}
