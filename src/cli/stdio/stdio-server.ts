/** A stdio MCP server as the server instance of a session: a child process, one for each live session. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { isMessage, type JSONRPCMessage } from '../../wire/jsonrpc.js'
import type { ServerInstance, Transport } from '../../wire/sdk.js'
import { inheritedEnv } from './child-env.js'
import { Lines } from './line-splitter.js'
import { Relations } from './related-requests.js'
import { spawnFailure } from './start-error.js'

export interface StdioServerOptions {
  /** Program to start; looked up in `PATH`. Never goes through a shell. */
  command: string
  args?: readonly string[]
  /** Added to what a child inherits by default, which holds no secrets: see child-env.ts. */
  env?: Readonly<Record<string, string>>
  /** Default: this process's. */
  cwd?: string
  /** A line of the child's stderr, or one of its stdout that is not JSON-RPC. Default: ignored. */
  onstderr?(line: string): void
  /** The child ended without being asked to, or a message could not be passed on. Default: ignored. */
  onerror?(error: Error): void
  /** How long the child gets to end once its stdin has, and again after SIGTERM, in ms. Default 2,000 (as in the SDK). */
  grace?: number
}

export interface StdioServer extends ServerInstance {
  /** Process id of the child while it runs. */
  readonly pid: number | undefined
}

/** More than any message should be, and less than the longest string of the JavaScript engine. */
const MAX_LINE = 256 * 1024 * 1024
/** A log line longer than this is broken up. */
const MAX_LOG_LINE = 64 * 1024
/** Bytes that a child may leave unread in its stdin before it counts as stuck. */
const MAX_UNREAD = 64 * 1024 * 1024
/** Messages on their way to the client above which the child's stdout is not read on. */
const MAX_UNSENT = 256
/** How long is waited for an ended child's last output (a grandchild may hold the pipe), and for the end after a broken pipe, in ms. */
const LAST_WORDS = 500

/**
 * A child process that speaks newline-delimited JSON-RPC on stdin and stdout (specification, basic/transports, "stdio").
 *
 * `connect` resolves when the process has started, and rejects if it cannot be. When the process ends by itself, the
 * transport is closed. When the transport is closed, the process is ended the way the SDK's stdio client does it: its
 * stdin ends, then SIGTERM, then SIGKILL; `close` resolves when it is gone. What still runs when this process exits is
 * killed.
 */
export function stdioServer(options: StdioServerOptions): StdioServer {
  return new ChildServer(options)
}

/** Killed when this process exits without having closed them: not every server ends when its stdin does. */
const running = new Set<Child>()

function killRunning(): void {
  for (const child of running) signal(child, 'SIGKILL')
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>

class ChildServer implements StdioServer {
  readonly #relations = new Relations()
  #child: Child | undefined
  #transport: Transport | undefined
  #gone: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined
  #unsent = 0

  constructor(private readonly options: StdioServerOptions) {}

  get pid(): number | undefined {
    return this.#child && isRunning(this.#child) ? this.#child.pid : undefined
  }

  async connect(transport: Transport): Promise<void> {
    if (this.#transport) throw new Error('this stdio server is already connected')
    this.#transport = transport
    const child = await this.#spawn()
    this.#child = child
    this.#gone = gone(child)
    child.on('error', (error) => this.options.onerror?.(error))
    child.stdin.on('error', () => void this.#brokenPipe('closed its stdin'))
    child.stdout.on('error', () => {})
    child.stderr.on('error', () => {})
    this.#readStderr(child)
    transport.onmessage = (message) => this.#write(message)
    transport.onclose = () => void this.close()
    void this.#gone.then(() => this.#ended(child))
    try {
      await transport.start()
    } catch (error) {
      await this.close()
      throw error
    }
    this.#readStdout(child)
  }

  close(): Promise<void> {
    // Not at once: closing the transport leads back here.
    this.#closing ??= Promise.resolve().then(() => this.#close())
    return this.#closing
  }

  async #spawn(): Promise<Child> {
    const { command, args = [], env, cwd } = this.options
    try {
      const child: Child = spawn(command, args, {
        env: { ...inheritedEnv(), ...env },
        cwd,
        stdio: ['pipe', 'pipe', 'pipe'],
        shell: false,
        windowsHide: true,
        // A process group of its own: the Ctrl-C that makes this process finish its running calls must not end the
        // children that run them, and a launcher such as npx can be ended together with what it launched.
        detached: process.platform !== 'win32',
      })
      await once(child, 'spawn')
      keep(child)
      return child
    } catch (error) {
      throw spawnFailure(command, cwd, error as NodeJS.ErrnoException)
    }
  }

  async #close(): Promise<void> {
    const child = this.#child
    // First, so that nobody waits for answers of a process that takes its time to end.
    await this.#transport?.close().catch((error: unknown) => this.options.onerror?.(error as Error))
    if (!child) return
    child.stdout.resume()
    const { grace = 2_000 } = this.options
    child.stdin.end()
    if (await within(grace, this.#gone)) return
    signal(child, 'SIGTERM')
    if (await within(grace, this.#gone)) return
    signal(child, 'SIGKILL')
    await this.#gone
  }

  #ended(child: Child): void {
    if (!this.#closing) {
      const how = child.signalCode === null ? `exit code ${child.exitCode}` : `${child.signalCode}`
      this.options.onerror?.(new Error(`the server process ended by itself (${how})`))
    }
    void this.close()
  }

  /** Mostly the first sign of a child that has ended; one that goes on would never answer. */
  async #brokenPipe(what: string): Promise<void> {
    if (!(await within(LAST_WORDS, this.#gone))) this.#fail(what)
  }

  /** Ends a child that runs but is of no use any more. */
  #fail(why: string): void {
    if (this.#closing || !this.#child || !isRunning(this.#child)) return
    this.options.onerror?.(new Error(`the server process ${why}`))
    signal(this.#child, 'SIGTERM')
    void this.close()
  }

  #write(message: JSONRPCMessage): void {
    const stdin = this.#child?.stdin
    if (!stdin?.writable) return
    // The client cannot be told to wait: what a child does not read piles up here.
    if (stdin.writableLength > MAX_UNREAD) {
      this.#fail('does not read its stdin')
      return
    }
    this.#relations.fromClient(message)
    stdin.write(`${JSON.stringify(message)}\n`)
  }

  #readStdout(child: Child): void {
    const lines = new Lines(
      MAX_LINE,
      (line) => this.#online(line),
      () => this.#fail(`wrote a line of more than ${MAX_LINE / 1024 / 1024} MiB`),
    )
    child.stdout.on('data', (chunk: Buffer) => lines.push(chunk))
    child.stdout.on('end', () => {
      lines.end()
      void this.#brokenPipe('closed its stdout')
    })
  }

  #readStderr(child: Child): void {
    const online = (line: string) => this.options.onstderr?.(line)
    const lines = new Lines(MAX_LOG_LINE, online, (start) => online(start.toString('utf8')))
    child.stderr.on('data', (chunk: Buffer) => lines.push(chunk))
    child.stderr.on('end', () => lines.end())
  }

  #online(line: string): void {
    if (this.#closing || line.trim() === '') return
    const messages = parse(line)
    if (!messages) this.options.onstderr?.(line)
    else for (const message of messages) void this.#deliver(message)
  }

  async #deliver(message: JSONRPCMessage): Promise<void> {
    const related = this.#relations.fromServer(message)
    const stdout = this.#child?.stdout
    this.#unsent++
    if (this.#unsent === MAX_UNSENT) stdout?.pause()
    try {
      await this.#transport?.send(message, related === undefined ? undefined : { relatedRequestId: related })
    } catch (error) {
      this.options.onerror?.(new Error(`a message could not be passed on: ${String(error)}`, { cause: error }))
    } finally {
      this.#unsent--
      if (this.#unsent < MAX_UNSENT) stdout?.resume()
    }
  }
}

/** The messages of a line, which may be a batch (2025-03-26, basic, "Batching"); undefined: it is something else. */
function parse(line: string): JSONRPCMessage[] | undefined {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  const values: unknown[] = Array.isArray(value) ? value : [value]
  return values.length > 0 && values.every(isMessage) ? values : undefined
}

function keep(child: Child): void {
  if (running.size === 0) process.on('exit', killRunning)
  running.add(child)
  child.once('exit', () => {
    running.delete(child)
    if (running.size === 0) process.off('exit', killRunning)
  })
}

function isRunning(child: Child): boolean {
  return child.exitCode === null && child.signalCode === null
}

/** Resolves when the process has ended and its output is read. */
function gone(child: Child): Promise<void> {
  return new Promise((resolve) => {
    child.once('close', () => resolve())
    child.once('exit', () => {
      setTimeout(() => {
        child.stdout.destroy()
        child.stderr.destroy()
      }, LAST_WORDS).unref()
    })
  })
}

function signal(child: Child, name: NodeJS.Signals): void {
  const { pid } = child
  if (pid === undefined || !isRunning(child)) return
  try {
    process.kill(process.platform === 'win32' ? pid : -pid, name)
  } catch {
    // It has just ended.
  }
}

/** Whether it happens in time. */
async function within(ms: number, event: Promise<void>): Promise<boolean> {
  const patience = new AbortController()
  const timeUp = delay(ms, false, { signal: patience.signal }).catch(() => false)
  const happened = await Promise.race([event.then(() => true), timeUp])
  patience.abort()
  return happened
}
