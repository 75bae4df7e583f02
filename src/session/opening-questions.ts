/**
 * What a server asks a person as soon as it is initialized. Each restore initializes a new server, which asks again; so the
 * answer is kept with the session, and given to the new server in the client's place. Only a question that was never
 * answered goes out again, since nobody knows whether the node that died had asked it.
 *
 * Which questions these are is told by when they are sent: at once when the server hears that it is initialized, or at once
 * when it gets an answer to what it asked then, such as its client's roots. After anything else that a server may wait for, a
 * tool may be asking just as well, and a tool is never answered from what is kept.
 */
import { createHash } from 'node:crypto'
import { Unavailable } from '../backend/bounded.js'
import { asError } from '../util/error.js'
import { within } from '../util/within.js'
import {
  isRequest,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type JSONRPCResponse,
  type RequestId,
} from '../wire/jsonrpc.js'
import type { StoredState } from './state.js'

/** Where the answers are, among the values of the session's state. */
const KEY = 'mcp-roam:opening'

/** Characters of JSON text that all kept answers of a session may have. */
const MAX_KEPT = 256 * 1024

/** How long a client that answered waits for its answer to be kept, in ms; the node it asked through waits for two seconds. */
const PATIENCE = 1000

/** Requests that reach a person. Others are for each instance to make: it must know its client's roots itself. */
const PERSONAL = new Set(['elicitation/create', 'sampling/createMessage'])

type Kept = Record<string, Pick<JSONRPCResponse & { result?: unknown; error?: unknown }, 'result' | 'error'>>

export interface OpeningHost {
  /** Undefined: the session store keeps no state, so each instance asks. */
  readonly state: StoredState | undefined
  /** Whether another instance may have asked before. */
  readonly restored: boolean
  /** Puts a request to the client. */
  ask(request: JSONRPCRequest): void
  /** Gives the server an answer in the client's place. */
  answer(response: JSONRPCResponse): void
  onerror(error: Error): void
}

export class OpeningQuestions {
  /** What the server waits for, by its own ids, and under which name the answer is kept; undefined: it is not. */
  readonly #asked = new Map<RequestId, string | undefined>()
  /** Questions that are held back until it is known whether they were answered before. */
  readonly #held = new Map<RequestId, Promise<void>>()
  /** How often this instance has asked the same. */
  readonly #times = new Map<string, number>()
  /** Above 0: what the server sends belongs to its opening. */
  #open = 0

  constructor(private readonly host: OpeningHost) {}

  /** Whether something is under way that would be lost with the instance. */
  get busy(): boolean {
    return this.#held.size > 0
  }

  /** What the server sends at once, because of what it is about to be told, belongs to its opening. */
  begin(): void {
    this.#open++
    setImmediate(() => this.#open--)
  }

  /** Resolves when the server has done what it does at once, and again for each answer that was kept. */
  async settled(): Promise<void> {
    do {
      await Promise.all(this.#held.values())
      await new Promise(setImmediate)
    } while (this.#held.size > 0)
  }

  /** Takes a message that the server sends on behalf of no request; false: it goes out as any other does. */
  takes(message: JSONRPCRequest | JSONRPCNotification): boolean {
    if (!isRequest(message)) return message.method === 'notifications/cancelled' && this.#cancel(message)
    if (this.#open === 0) return false
    const name = this.#nameOf(message)
    this.#asked.set(message.id, name)
    if (name === undefined || !this.host.restored) return false
    this.#held.set(message.id, this.#lookUp(message, name))
    return true
  }

  /** The server is about to get a client's answer; what is returned resolves when it is kept, or cannot be. */
  answered(response: JSONRPCResponse): Promise<void> | undefined {
    const { id } = response
    if (id === undefined || !this.#asked.has(id)) return undefined
    const name = this.#asked.get(id)
    this.#asked.delete(id)
    this.begin()
    return name === undefined ? undefined : within(PATIENCE, this.#keep(name, response)).catch(() => {})
  }

  /** The instance is out of use. */
  close(): void {
    this.#asked.clear()
    this.#held.clear()
  }

  /** Whether the client has heard nothing of what the server no longer wants to know. */
  #cancel({ params }: JSONRPCNotification): boolean {
    const id = params?.requestId as RequestId
    this.#asked.delete(id)
    return this.#held.delete(id)
  }

  /** Undefined: its answer is not kept. */
  #nameOf({ method, params = {} }: JSONRPCRequest): string | undefined {
    // The answer to a request that runs as a task says only where the client keeps the result, for a while.
    if (!this.host.state || !PERSONAL.has(method) || params.task !== undefined) return undefined
    // `_meta` is about this sending of the question: it has the progress token
    const asked = JSON.stringify([method, { ...params, _meta: undefined }])
    const hash = createHash('sha256').update(asked).digest('base64url')
    const time = (this.#times.get(hash) ?? 0) + 1
    this.#times.set(hash, time)
    return `${hash}:${time}`
  }

  async #lookUp(request: JSONRPCRequest, name: string): Promise<void> {
    const { id } = request
    let kept: Kept | undefined
    try {
      kept = await this.host.state?.get<Kept>(KEY)
    } catch (error) {
      this.#tell(error)
    }
    // cancelled, or closed
    if (!this.#held.delete(id)) return
    const answer = kept?.[name]
    if (!answer) return this.host.ask(request)
    this.#asked.delete(id)
    this.begin()
    this.host.answer({ jsonrpc: '2.0', id, ...answer } as JSONRPCResponse)
  }

  /** Never rejects. */
  async #keep(name: string, response: JSONRPCResponse): Promise<void> {
    const { jsonrpc, id, ...answer } = response
    try {
      await this.host.state?.update<Kept>(KEY, (kept) => {
        const all = { ...kept, [name]: answer }
        if (JSON.stringify(all).length <= MAX_KEPT) return all
        throw new RangeError(
          `the answers to what a server asked when it was initialized have more than ${MAX_KEPT} characters: it will ask again`,
        )
      })
    } catch (error) {
      this.#tell(error)
    }
  }

  /** A backend that is away has been told already. */
  #tell(error: unknown): void {
    if (!(error instanceof Unavailable)) this.host.onerror(asError(error))
  }
}
