/** A child process that answers questions over IPC, one at a time; it ends when its parent does. */
import { type ChildProcess, fork } from 'node:child_process'

type Answer<A> = { value: A } | { error: string }

export class Child<Q, A> {
  #pending: { resolve(value: A): void; reject(error: Error): void } | undefined
  #gone: Error | undefined

  private constructor(
    readonly name: string,
    private readonly process: ChildProcess,
  ) {
    process.on('message', (answer: Answer<A>) => {
      const pending = this.#pending
      this.#pending = undefined
      if ('error' in answer) pending?.reject(new Error(`${name}: ${answer.error}`))
      else pending?.resolve(answer.value)
    })
    process.on('exit', (code, signal) => {
      this.#gone = new Error(`${name} ended (${signal ?? code})`)
      this.#pending?.reject(this.#gone)
    })
  }

  /** Forks a module of this folder and resolves with its first answer. */
  static async start<Q, A>(
    name: string,
    module: string,
    args: string[],
    execArgv: string[] = [],
  ): Promise<{ child: Child<Q, A>; hello: A }> {
    const process = fork(new URL(module, import.meta.url), args, {
      execArgv: ['--import', 'tsx', ...execArgv],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    const child = new Child<Q, A>(name, process)
    return { child, hello: await child.#answer() }
  }

  ask(question: Q): Promise<A> {
    const answer = this.#answer()
    this.process.send(question as never)
    return answer
  }

  async stop(): Promise<void> {
    if (this.#gone) return
    const exit = new Promise((resolve) => this.process.once('exit', resolve))
    const overdue = setTimeout(() => this.process.kill('SIGKILL'), 5_000)
    this.process.disconnect()
    await exit
    clearTimeout(overdue)
  }

  #answer(): Promise<A> {
    return new Promise((resolve, reject) => {
      if (this.#gone) return reject(this.#gone)
      this.#pending = { resolve, reject }
    })
  }
}

/** The child's half: says hello, then answers what it is asked until its parent hangs up. */
export function answer<Q, A>(hello: A, reply: (question: Q) => A | Promise<A>): void {
  const send = (answer: Answer<A>) => process.send?.(answer)
  process.on('message', async (question: Q) => {
    try {
      send({ value: await reply(question) })
    } catch (error) {
      send({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    }
  })
  process.on('disconnect', () => process.exit(0))
  // The parent ends its children itself; a Ctrl-C that reaches the whole group must not get in between.
  process.on('SIGINT', () => {})
  send({ value: hello })
}
