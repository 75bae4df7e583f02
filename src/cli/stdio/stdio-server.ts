/** A stdio MCP server as the server instance of a session: a child process, one for each live session. */
import { asError } from '../../util/error.js'
import { isMessage, isObject, type JSONRPCMessage } from '../../wire/jsonrpc.js'
import type { ServerInstance, Transport } from '../../wire/sdk.js'
import { ChildProcess } from './child-process.js'
import { LineSplitter } from './line-splitter.js'
import { RelatedRequests } from './related-requests.js'

export interface StdioServerOptions {
  /** Program to start; looked up in `PATH`. Never goes through a shell. */
  command: string
  args?: readonly string[]
  /** Added to what a child inherits by default, which holds no secrets: see child-env.ts. */
  env?: Readonly<Record<string, string>>
  /** Default: this process's. */
  cwd?: string
  /** Called with each line of the child's stderr, and each of its stdout that is not JSON-RPC. Default: ignored. */
  onstderr?(line: string): void
  /** Called when the child has ended without being asked to, or a message could not be passed on. Default: ignored. */
  onerror?(error: Error): void
  /**
   * Called before the child is started: resolves with what to call when it has ended, or rejects if there may be none now.
   * Default: there may be any number.
   */
  place?(): Promise<() => void>
  /** How long the child gets to end once its stdin has, and again after SIGTERM, in ms. Default 2,000 (as in the SDK). */
  grace?: number
}

export interface StdioServer extends ServerInstance {
  /** Process id of the child while it runs. */
  readonly pid: number | undefined
}

/** How long a child gets to end, in ms. As in the SDK. */
const GRACE = 2_000
const CLOSED_EARLY = 'this stdio server was closed before its process had started'
/** Bytes of a line. More than any message should have, and less than the longest string that V8 can make. */
const MAX_LINE = 256 * 1024 * 1024
/** Bytes of a line of the log; a longer one is broken up. */
const MAX_LOG_LINE = 64 * 1024
/** Bytes that a child may leave unread in its stdin before it counts as stuck. */
const MAX_UNREAD = 64 * 1024 * 1024
/** When this many messages are on their way to the client, the child's stdout is not read until some have left. */
const MAX_UNSENT = 256
/** How long a child whose pipe is broken may take to end by itself, in ms. */
const BROKEN_PIPE_PATIENCE = 500

/**
 * A child process that speaks newline-delimited JSON-RPC on stdin and stdout (2025-11-25, basic/transports, "stdio").
 *
 * `connect` resolves when the process has started, and rejects if it cannot be started. When the process ends by itself,
 * the transport is closed. When the transport is closed, the process is ended: its stdin ends, then SIGTERM, then SIGKILL;
 * `close` resolves when it is gone. A child that still runs when this process exits is killed.
 */
export function stdioServer(options: StdioServerOptions): StdioServer {
  return new ChildServer(options)
}

class ChildServer implements StdioServer {
  readonly #relatedRequests = new RelatedRequests()
  #child: ChildProcess | undefined
  #transport: Transport | undefined
  #closing: Promise<void> | undefined
  #unsent = 0

  constructor(private readonly options: StdioServerOptions) {}

  get pid(): number | undefined {
    return this.#child?.pid
  }

  async connect(transport: Transport): Promise<void> {
    if (this.#transport) throw new Error('this stdio server is already connected')
    this.#transport = transport
    const child = await this.#start()
    this.#child = child
    child.onerror((error) => this.options.onerror?.(error))
    child.stdin.on('error', () => void this.#brokenPipe(child, 'closed its stdin'))
    child.stdout.on('error', () => {})
    child.stderr.on('error', () => {})
    this.#readStderr(child)
    transport.onmessage = (message) => this.#write(message)
    transport.onclose = () => void this.close()
    void child.ended.then(() => this.#ended(child))
    try {
      await transport.start()
    } catch (error) {
      await this.close()
      throw error
    }
    this.#readStdout(child)
  }

  async #start(): Promise<ChildProcess> {
    const { command, args = [], env = {}, cwd, place, grace = GRACE } = this.options
    const free = await place?.()
    try {
      if (this.#closing) throw new Error(CLOSED_EARLY)
      const child = await ChildProcess.start({ command, args, env, cwd })
      if (free) void child.ended.then(free)
      if (!this.#closing) return child
      await child.end(grace)
    } catch (error) {
      free?.()
      throw error
    }
    throw new Error(CLOSED_EARLY)
  }

  close(): Promise<void> {
    // Not synchronously: closing the transport calls `close` again, which must find the promise.
    this.#closing ??= Promise.resolve().then(() => this.#close())
    return this.#closing
  }

  async #close(): Promise<void> {
    // The transport first: nobody should wait for answers of a process that takes its time to end.
    await this.#transport?.close().catch((error: unknown) => this.options.onerror?.(asError(error)))
    const { grace = GRACE } = this.options
    await this.#child?.end(grace)
  }

  #ended(child: ChildProcess): void {
    if (!this.#closing) {
      this.options.onerror?.(new Error(`the server process ended by itself (${child.outcome})`))
    }
    void this.close()
  }

  /** A broken pipe mostly means that the child is ending. If it is not, it is ended: it could never answer again. */
  async #brokenPipe(child: ChildProcess, what: string): Promise<void> {
    if (!(await child.endsWithin(BROKEN_PIPE_PATIENCE))) this.#fail(what)
  }

  /** Ends a child that runs but is of no use any more. */
  #fail(why: string): void {
    if (this.#closing || !this.#child?.running) return
    this.options.onerror?.(new Error(`the server process ${why}`))
    this.#child.signal('SIGTERM')
    void this.close()
  }

  #write(message: JSONRPCMessage): void {
    const stdin = this.#child?.stdin
    if (!stdin?.writable) return
    // The client cannot be told to wait, so what the child does not read is kept here.
    if (stdin.writableLength > MAX_UNREAD) {
      this.#fail('does not read its stdin')
      return
    }
    this.#relatedRequests.fromClient(message)
    stdin.write(`${JSON.stringify(message)}\n`)
  }

  #readStdout(child: ChildProcess): void {
    const lines = new LineSplitter(
      MAX_LINE,
      (line) => this.#receive(line),
      () => this.#fail(`wrote a line of more than ${MAX_LINE / 1024 / 1024} MiB`),
    )
    child.stdout.on('data', (chunk: Buffer) => lines.push(chunk))
    child.stdout.on('end', () => {
      lines.end()
      void this.#brokenPipe(child, 'closed its stdout')
    })
  }

  #readStderr(child: ChildProcess): void {
    const online = (line: string) => this.options.onstderr?.(line)
    const lines = new LineSplitter(MAX_LOG_LINE, online, (start) => online(start.toString('utf8')))
    child.stderr.on('data', (chunk: Buffer) => lines.push(chunk))
    child.stderr.on('end', () => lines.end())
  }

  #receive(line: string): void {
    if (this.#closing || line.trim() === '') return
    const messages = parse(line)
    if (!messages) this.options.onstderr?.(line)
    else for (const message of messages) void this.#deliver(message)
  }

  async #deliver(message: JSONRPCMessage): Promise<void> {
    const related = this.#relatedRequests.fromServer(message)
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
  const values = (Array.isArray(value) ? value : [value]).map(withoutMore)
  return values.length > 0 && values.every(isMessage) ? values : undefined
}

/**
 * A message with nothing but what belongs in it: libraries of other languages add members of their own, or `"error": null` beside a
 * result, and clients of the SDKs would wait for an answer that they ignore.
 */
function withoutMore(value: unknown): unknown {
  if (!isObject(value)) return value
  const { jsonrpc, id, method, params, result, error } = value
  if (typeof method === 'string') {
    return { jsonrpc, ...('id' in value && { id }), method, ...(params !== undefined && { params }) }
  }
  return isObject(result) ? { jsonrpc, id, result } : { jsonrpc, ...('id' in value && { id }), error }
}
