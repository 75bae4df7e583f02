/** `mcp-roam` as a process of its own, driven and watched from outside. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Recorder } from '../harness/recorder.js'
import { within } from '../harness/within.js'

export const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** A script of children/, as the words of a command. */
export function script(name: string): string[] {
  return [process.execPath, fileURLToPath(new URL(`children/${name}.js`, import.meta.url))]
}

/** The official server with a bit of everything, on stdio. */
export const EVERYTHING = [
  process.execPath,
  createRequire(import.meta.url).resolve('@modelcontextprotocol/server-everything/dist/index.js'),
  'stdio',
]

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export interface RunOptions {
  env?: Record<string, string>
  /** More arguments for Node. */
  node?: string[]
}

export class Cli {
  /** Lines of stderr. */
  readonly lines = new Recorder<string>()
  stdout = ''
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  readonly #child: ChildProcess

  constructor(args: string[], { env = {}, node = [] }: RunOptions = {}) {
    const child = spawn(process.execPath, [...node, '--import', 'tsx', MAIN, ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    running.add(child)
    createInterface({ input: child.stderr }).on('line', (line) => this.lines.add(line))
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    this.ended = once(child, 'close').then(([code, signal]) => {
      running.delete(child)
      return { code, signal }
    })
  }

  get log(): string {
    return this.lines.all.join('\n')
  }

  /** Resolves with its URL when it serves; rejects with what it said when it ends instead. */
  async ready(): Promise<string> {
    const line = this.lines.first((line) => line.startsWith('mcp-roam: ready at '), 'the ready line', { ms: 20_000 })
    const ended = this.ended.then(({ code }) => {
      throw new Error(`it ended with ${code}: ${this.log}`)
    })
    ended.catch(() => {})
    line.catch(() => {})
    const ready = await Promise.race([line, ended])
    return /ready at (http:\S+),/.exec(ready)?.[1] ?? ''
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  /** Its exit code. */
  async exit(): Promise<number | null> {
    return (await within(this.ended, `the end of the process\n${this.log}`, 20_000)).code
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL')
    await within(this.ended, 'the end of a killed process')
  }
}

/** The workers of `serve --workers`, which is not all that its process starts: tsx has a process of its own there. */
export async function workersOf(pid: number): Promise<number[]> {
  const { stdout } = await promisify(execFile)('ps', ['-A', '-ww', '-o', 'pid=,ppid=,args='])
  return stdout.split('\n').flatMap((line) => {
    const [worker, parent] = line.trim().split(/\s+/)
    return Number(parent) === pid && line.includes(MAIN) ? Number(worker) : []
  })
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
