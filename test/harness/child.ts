/** A server in a process of its own, to be killed, frozen and started again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { program } from './program.js'
import { Recorder } from './recorder.js'
import { within } from './within.js'

/** How long it may take to start, and to end, in ms. */
const PATIENCE = 30_000

export abstract class Child {
  /** Lines it wrote to stderr, in all its lives, and how each ended. */
  readonly lines = new Recorder<string>()
  #child: ChildProcess | undefined

  /** @param entry Its program, in the folder of tests. It ends with its stdin, and so with this process, whatever ends that. */
  constructor(private readonly entry: string) {}

  get log(): string {
    return this.lines.all.join('\n')
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /**
   * Resolves with the first line that it prints.
   *
   * @param flags Of Node itself.
   */
  protected async spawn(args: readonly string[], flags: readonly string[] = []): Promise<string> {
    const child = spawn(process.execPath, [...flags, await program(this.entry), ...args])
    this.#child = child
    createInterface({ input: child.stderr }).on('line', (line) => this.lines.add(line))
    const ended = once(child, 'exit').then(([code, signal]) => {
      this.lines.add(`[${child.pid} ended: ${signal ?? code}]`)
      if (this.#child === child) this.#child = undefined
      throw new Error(`the server ended: ${signal ?? code}`)
    })
    const ready = once(createInterface({ input: child.stdout }), 'line').then(([line]) => String(line))
    ended.catch(() => {})
    ready.catch(() => {})
    try {
      return await within(Promise.race([ready, ended]), 'a server that is ready', PATIENCE)
    } catch (error) {
      child.kill('SIGKILL')
      throw new Error(`${error}\n${this.log}`)
    }
  }

  /** SIGSTOP: connections stay open, nothing answers. */
  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  /** SIGKILL; resolves when it is dead. */
  kill(): Promise<void> {
    return this.#end('SIGKILL')
  }

  /** SIGTERM; resolves when it has drained and ended. */
  terminate(): Promise<void> {
    return this.#end('SIGTERM')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (!child) return
    const exit = once(child, 'exit')
    child.kill(signal)
    try {
      await within(exit, `the end of a server after ${signal}\n${this.log}`, PATIENCE)
    } finally {
      child.kill('SIGKILL')
    }
  }
}
