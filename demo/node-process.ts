/** A node of the demo as a process, to be killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const SCRIPT = fileURLToPath(new URL('node.js', import.meta.url))

export class NodeProcess {
  /** Where it serves, until it is killed. */
  url: string | undefined
  #child: ChildProcess | undefined

  constructor(
    readonly name: string,
    private readonly backend: string,
  ) {}

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** Resolves when it serves. */
  async start(): Promise<void> {
    // Its stdin is a pipe that it never reads: the pipe closes with this process, and the node ends.
    const child = spawn(process.execPath, [SCRIPT, this.backend], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child = child
    const ended = once(child, 'exit').then(() => {
      throw new Error('A node ended before it was ready.')
    })
    ended.catch(() => {})
    const [line] = (await Promise.race([once(createInterface({ input: child.stdout }), 'line'), ended])) as [string]
    this.url = line
  }

  /** SIGKILL; resolves when it is dead. */
  async kill(): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
  }
}
