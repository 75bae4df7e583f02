/** The server of the demo as a process, to be killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const SCRIPT = fileURLToPath(new URL('server.js', import.meta.url))

export class ServerProcess {
  /** The MCP endpoint, the same in all its lives. */
  url = ''
  #child: ChildProcess | undefined

  constructor(private readonly backend: string) {}

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** Resolves when it serves. */
  async start(): Promise<void> {
    const port = this.url === '' ? '0' : new URL(this.url).port
    // Its stdin is a pipe that it never reads: the pipe closes with this process, and the server ends.
    const child = spawn(process.execPath, [SCRIPT, port, this.backend], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child = child
    const ended = once(child, 'exit').then(() => {
      throw new Error('the server ended before it was ready')
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
