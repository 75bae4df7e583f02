/** A real SDK client that calls a tool all the time, and what became of its calls. */
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport, StreamableHTTPError } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { ErrorCode, McpError } from '@modelcontextprotocol/sdk/types.js'

/** A call without an answer for this long counts as hung, in ms. A node counts as dead after five seconds of silence. */
const CALL_LIMIT = 15_000
/** How long a server may take to come back, in ms. */
const RECOVERY_LIMIT = 15_000

/** The SDK's defaults. */
const RECONNECTION = { initialReconnectionDelay: 1_000, maxReconnectionDelay: 30_000, reconnectionDelayGrowFactor: 1.5 }

/** The server says that there is no such session. */
export class SessionLost extends Error {}

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
  /** Resolves when it has begun to show progress. */
  underway: Promise<void>
  /** How long it took, in ms, and which process answered. */
  answered: Promise<{ took: number; by: number }>
}

/** While the server is away. */
interface Outage {
  since: number
  ended: Promise<void>
  over: () => void
}

export class Traffic {
  readonly counts: Counts = { made: 0, answered: 0, failed: 0, unexplained: 0, hung: 0 }
  /** How often the client has sent `initialize`. */
  initializeSent = 0
  readonly #client = new Client({ name: 'mcp-roam-demo', version: '1.0.0' })
  readonly #transport: StreamableHTTPClientTransport
  #stopped = false
  #callers: Promise<void>[] = []
  #outage: Outage | undefined
  #outages = 0

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
    // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
    await this.#client.connect(this.#transport as Transport)
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

  async close(): Promise<void> {
    await this.#client.close()
  }

  /** What the tool has counted. */
  async counted(): Promise<number> {
    return Number(await this.#call('counted'))
  }

  callLong(): LongCall {
    const since = performance.now()
    let onprogress = () => {}
    const underway = new Promise<void>((resolve) => {
      onprogress = resolve
    })
    const answered = this.#call('survey', onprogress).then(
      (pid) => ({ took: performance.now() - since, by: Number(pid) }),
      (error: Error) => {
        if (hung(error)) this.counts.hung++
        throw error
      },
    )
    return { underway: Promise.race([underway, answered.then(() => {})]), answered }
  }

  /** To be called just before the server is killed: its callers hold on, and a call that fails from now on has its reason. */
  interrupted(): void {
    let over = () => {}
    const ended = new Promise<void>((resolve) => {
      over = resolve
    })
    this.#outages++
    this.#outage = { since: performance.now(), ended, over }
  }

  /** To be called when it is dead: resolves with how long it took to answer again, in ms; throws {@link SessionLost}. */
  async recovered(): Promise<number> {
    const { since, over } = this.#outage as Outage
    try {
      await this.#knock(since)
      return performance.now() - since
    } catch (error) {
      this.#stopped = true
      throw error
    } finally {
      this.#outage = undefined
      over()
    }
  }

  async #knock(since: number): Promise<void> {
    for (;;) {
      try {
        await this.#call('counted')
        return
      } catch (error) {
        if (error instanceof StreamableHTTPError && error.code === 404) throw new SessionLost('the server answered 404')
        if (performance.now() - since > RECOVERY_LIMIT) throw new Error('the server did not come back')
      }
      await delay(10)
    }
  }

  async #keepCalling(): Promise<void> {
    const { counts } = this
    while (!this.#stopped) {
      counts.made++
      const outages = this.#outages
      try {
        await this.#call('count')
        counts.answered++
      } catch (error) {
        if (hung(error)) counts.hung++
        else if (this.#outages > outages) counts.failed++
        else counts.unexplained++
      }
      await this.#outage?.ended
    }
  }

  async #call(name: string, onprogress?: () => void): Promise<string> {
    const options = { timeout: CALL_LIMIT, ...(onprogress && { onprogress }) }
    const result = await this.#client.callTool({ name }, undefined, options)
    const [content] = result.content as { text: string }[]
    if (result.isError) throw new Error(content?.text)
    return content?.text ?? ''
  }
}

function hung(error: unknown): boolean {
  return error instanceof McpError && error.code === ErrorCode.RequestTimeout
}
