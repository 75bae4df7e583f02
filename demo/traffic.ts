/** A real SDK client that calls a tool all the time, and what became of its calls. */
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport, StreamableHTTPError } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { ErrorCode, McpError } from '@modelcontextprotocol/sdk/types.js'

/** A call without an answer for this long counts as hung, in ms. A node counts as dead after five seconds of silence at most. */
const CALL_LIMIT = 15_000
/** How long it may take until calls are answered again, in ms. */
const RECOVERY_LIMIT = 15_000
/** How long a caller waits between an answer and its next call, in ms: some hundreds of calls show as much as thousands. */
const PAUSE = 40

/** The SDK's defaults. */
const RECONNECTION = { initialReconnectionDelay: 1_000, maxReconnectionDelay: 30_000, reconnectionDelayGrowFactor: 1.5 }

/** A node says that there is no such session. */
export class SessionLost extends Error {
  constructor() {
    super('a node answered 404')
  }
}

export interface Counts {
  made: number
  answered: number
  /** Cut off by a kill. */
  failed: number
  /** Failed for no such reason. */
  unexplained: number
  hung: number
}

/** A call that took long enough to be killed half-way. */
export interface LongCall {
  /** Resolves when it shows progress, with the process that runs it. */
  underway: Promise<number>
  /** How long it took, in ms, and which process answered. */
  answered: Promise<{ took: number; by: number }>
}

export class Traffic {
  readonly counts: Counts = { made: 0, answered: 0, failed: 0, unexplained: 0, hung: 0 }
  /** How often the client has sent `initialize`. */
  initializeSent = 0
  readonly #client = new Client({ name: 'mcp-roam-demo', version: '1.0.0' })
  readonly #transport: StreamableHTTPClientTransport
  #stopped = false
  #callers: Promise<void>[] = []
  /** Grows when a kill begins and when it is done. */
  #kills = 0

  constructor(url: string) {
    this.#transport = new StreamableHTTPClientTransport(new URL(url), {
      // The SDK gives up after two attempts, and a busy machine may take longer to start a process.
      reconnectionOptions: { ...RECONNECTION, maxRetries: 20 },
      fetch: (input, init) => {
        if (typeof init?.body === 'string' && init.body.includes('"method":"initialize"')) this.initializeSent++
        return fetch(input, init)
      },
    })
  }

  get sessionId(): string {
    return this.#transport.sessionId ?? ''
  }

  async open(): Promise<void> {
    try {
      // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
      await this.#client.connect(this.#transport as Transport)
    } catch (error) {
      throw isLost(error) ? new SessionLost() : error
    }
  }

  /** Starts so many callers, each calling again as soon as it was answered. */
  start(callers: number): void {
    this.#callers = Array.from({ length: callers }, () => this.#keepCalling())
  }

  /** Resolves when the last call has ended. */
  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#callers)
  }

  /** Leaves nothing of the session behind. */
  async close(): Promise<void> {
    await this.#transport.terminateSession().catch(() => {})
    await this.#client.close()
  }

  /** What the tool has counted. */
  async counted(): Promise<number> {
    return Number(await this.#call('counted'))
  }

  callLong(): LongCall {
    const since = performance.now()
    let onprogress = (_pid: number) => {}
    const underway = new Promise<number>((resolve) => {
      onprogress = resolve
    })
    const answered = this.#call('survey', onprogress).then(
      (pid) => ({ took: performance.now() - since, by: Number(pid) }),
      (error: Error) => {
        if (isHung(error)) this.counts.hung++
        throw error
      },
    )
    return { underway: Promise.race([underway, answered.then(({ by }) => by)]), answered }
  }

  /** Kills a node, and resolves with how long it took until a call was answered again, in ms. */
  async survive(kill: () => Promise<void>): Promise<number> {
    const since = performance.now()
    // A call that is under way now, or is made before the process is dead, has its reason to fail.
    this.#kills++
    await kill()
    this.#kills++
    for (;;) {
      try {
        await this.#call('counted')
        return performance.now() - since
      } catch (error) {
        if (isLost(error)) throw new SessionLost()
        if (performance.now() - since > RECOVERY_LIMIT) throw new Error('No node answers any more.')
      }
      await delay(10)
    }
  }

  async #keepCalling(): Promise<void> {
    const { counts } = this
    while (!this.#stopped) {
      counts.made++
      const kills = this.#kills
      try {
        await this.#call('count')
        counts.answered++
      } catch (error) {
        if (isHung(error)) counts.hung++
        else if (this.#kills > kills || this.#kills % 2 === 1) counts.failed++
        else counts.unexplained++
      }
      await delay(PAUSE)
    }
  }

  async #call(name: string, onprogress?: (pid: number) => void): Promise<string> {
    const options = { timeout: CALL_LIMIT, ...(onprogress && { onprogress: reading(onprogress) }) }
    const result = await this.#client.callTool({ name }, undefined, options)
    const [content] = result.content as { text: string }[]
    if (result.isError) throw new Error(content?.text)
    return content?.text ?? ''
  }
}

function reading(onprogress: (pid: number) => void) {
  return ({ message }: { message?: string | undefined }) => onprogress(Number(message))
}

function isHung(error: unknown): boolean {
  return error instanceof McpError && error.code === ErrorCode.RequestTimeout
}

function isLost(error: unknown): boolean {
  return error instanceof StreamableHTTPError && error.code === 404
}
