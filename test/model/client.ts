/** A client and what must be true of everything it sees. It knows nothing of the nodes but that they are one server. */
import type { JSONRPCMessage } from '../../src/wire/jsonrpc.js'
import { TOOLS, type Tool } from './server.js'
import type { Connection, SimulatedNode, World } from './world.js'

/** How often things of interest happened, over all histories: a model that sees none of them checks nothing. */
export const tally = new Map<string, number>()

export function count(what: string): void {
  tally.set(what, (tally.get(what) ?? 0) + 1)
}

/** How long a node may go by what it was not told, in ms: the handler's bound, and one answer of the backend. */
export const STALENESS = 6500
export const IDLE_TTL = 60_000
/** How long after trouble everything is in order again: heartbeats are back, nobody is suspected. */
const RECOVERY = 7000

export class Trouble {
  #endedAt = Number.NEGATIVE_INFINITY
  /** Whether the store was ever in trouble. */
  store = false

  constructor(private readonly world: World) {}

  /** To be called whenever trouble may have begun or ended. */
  look(): void {
    const { network, clock, nodes } = this.world
    this.#endedAt = Math.max(this.#endedAt, this.world.troubledAt)
    if (nodes.some(({ state }) => state === 'paused' || state === 'draining')) this.#endedAt = clock.now
    if (network.store !== 'none' || network.cutOff.size > 0) this.store = true
    if (network.troubled) this.#endedAt = clock.now
  }

  /** Whether nothing has gone wrong since then, nor shortly before. */
  calmSince(time: number): boolean {
    this.look()
    return this.#endedAt + RECOVERY <= time
  }
}

/** What a value in the session's journal may be, given the writes so far. */
export class Journalled {
  readonly #writes: { value: unknown; sentAt: number; doneAt: number; bound: number }[] = [
    { value: undefined, sentAt: Number.NEGATIVE_INFINITY, doneAt: Number.NEGATIVE_INFINITY, bound: 0 },
  ]

  /** A write was sent; with what to call when it has succeeded, if it does. */
  write(value: unknown, now: number): (now: number, bound: number) => void {
    const write = { value, sentAt: now, doneAt: Number.POSITIVE_INFINITY, bound: 0 }
    this.#writes.push(write)
    return (doneAt, bound) => Object.assign(write, { doneAt, bound })
  }

  /** What a request may see that was sent at `from` and answered at `to`. */
  allowed(from: number, to: number): unknown[] {
    return this.#writes
      .filter((one) => one.sentAt <= to)
      .filter(
        (one) =>
          !this.#writes.some((next) => next !== one && next.sentAt >= one.doneAt && next.doneAt + next.bound <= from),
      )
      .map(({ value }) => value)
  }
}

export interface Call {
  id: number
  tool: Tool
  sentAt: number
  steps: number
  connection: Connection | undefined
  /** Where to go on; undefined: the client has no way to. */
  lastEventId: string | undefined
  progress: number
  response: JSONRPCMessage | undefined
  /** The client is through with it: answered, or it cannot be followed. */
  over: boolean
  cancelled: boolean
}

export interface Question {
  wireId: string
  call: unknown
  answered: boolean
  /** How often it was answered, whatever became of that: only one answer can be of use. */
  attempts: number
}

interface Cursor {
  stream: string
  position: number
}

export function cursorOf(id: string): Cursor {
  const [, stream, position] = id.split('.')
  return { stream: stream as string, position: Number(position) }
}

export class Client {
  session: string | undefined
  initializing = false
  initialized = false
  readonly calls: Call[] = []
  readonly questions: Question[] = []
  readonly level = new Journalled()
  readonly uris = new Map<string, Journalled>()
  standalone: Connection | undefined
  standaloneCursor: string | undefined
  /** Nonces of notifications that came. */
  readonly told: string[] = []
  deleteSentAt: number | undefined
  deletedAt: number | undefined
  /** Until when the session cannot have expired. */
  #secureUntil = 0
  /** When the session was last in use for sure or perhaps. */
  #usedAt = 0
  /** The last position seen of each stream. */
  #positions = new Map<string, number>()
  #ids = 1
  #nonces = 0

  constructor(
    readonly name: string,
    readonly version: string,
    private readonly world: World,
    private readonly trouble: Trouble,
    private readonly violate: (what: string) => void,
  ) {}

  get #now(): number {
    return this.world.clock.now
  }

  get principal(): string {
    return `principal-${this.name}`
  }

  /** Whether the session should be there, as far as the client can know. */
  get usable(): boolean {
    return this.session !== undefined && this.deleteSentAt === undefined
  }

  get pending(): Call[] {
    return this.calls.filter((call) => !call.over)
  }

  /** To be called at each moment when time is about to pass, or has passed. */
  look(): void {
    const { session } = this
    if (session === undefined) return
    const active = this.standalone?.open || this.pending.length > 0 || this.world.deeds.running(session).length > 0
    if (active || !this.trouble.calmSince(this.#usedAt)) this.#usedAt = this.#now
  }

  initialize(node: SimulatedNode): void {
    this.initializing = true
    const params = {
      protocolVersion: this.version,
      capabilities: { elicitation: {} },
      clientInfo: { name: this.name, version: '1' },
    }
    const sentAt = this.#now
    let status = 0
    let session: string | undefined
    this.world.request(
      node,
      { method: 'POST', body: { jsonrpc: '2.0', id: 'init', method: 'initialize', params }, principal: this.principal },
      {
        head: (code, headers) => {
          status = code
          session = headers.get('mcp-session-id') ?? undefined
        },
        block: (text) => {
          if (!text.includes('"result"')) this.violate(`initialize answered by ${text}`)
        },
        end: () => {
          this.initializing = false
          if (status === 200 && session !== undefined) {
            this.session = session
            this.#secureUntil = sentAt + IDLE_TTL
            this.#usedAt = this.#now
          } else if (status === 200) this.violate('initialize answered without a session id')
          else if (this.trouble.calmSince(sentAt) || status !== 503) this.violate(`initialize answered by ${status}`)
        },
        broken: () => {
          this.initializing = false
        },
      },
    )
  }

  /** A POST that is answered without a stream, or not at all; `done` with its status. */
  post(
    node: SimulatedNode,
    message: Record<string, unknown>,
    done: (status: number, body: unknown) => void = () => {},
  ) {
    const sentAt = this.#now
    let status = 0
    let body: unknown
    this.world.request(node, this.#http('POST', { jsonrpc: '2.0', ...message }), {
      head: (code) => {
        status = code
        this.#judge(code, sentAt, String(message.method ?? 'response'))
      },
      text: (text) => {
        body = text === '' ? undefined : JSON.parse(text)
      },
      block: (text) => {
        const data = dataOf(text)
        if (data) body = JSON.parse(data)
      },
      end: () => done(status, body),
      broken: () => done(0, undefined),
    })
  }

  initializedNow(node: SimulatedNode): void {
    this.post(node, { method: 'notifications/initialized' }, (status) => {
      if (status === 202) this.initialized = true
      else this.#expectTrouble(status)
    })
  }

  call(node: SimulatedNode, tool: Tool, steps: number, every: number): void {
    const id = this.#ids++
    const call: Call = {
      id,
      tool,
      sentAt: this.#now,
      steps: tool.startsWith('slow') ? steps : 0,
      connection: undefined,
      lastEventId: undefined,
      progress: 0,
      response: undefined,
      over: false,
      cancelled: false,
    }
    this.calls.push(call)
    const params = {
      name: tool,
      arguments: { steps, every, nonce: `${this.name}${++this.#nonces}` },
      _meta: { progressToken: id },
    }
    this.#follow(call, node, this.#http('POST', { jsonrpc: '2.0', id, method: 'tools/call', params }))
  }

  /** Goes on with a call whose connection is gone, or takes it over from one that is still there. */
  resume(node: SimulatedNode, call: Call): void {
    if (call.over || call.lastEventId === undefined) return
    call.connection?.drop()
    this.#follow(call, node, { ...this.#http('GET'), lastEventId: call.lastEventId })
  }

  /** Loses the connection of a call. */
  drop(call: Call): void {
    call.connection?.drop()
    this.#disconnected(call)
  }

  openGet(node: SimulatedNode, withCursor: boolean): void {
    this.standalone?.drop()
    const sentAt = this.#now
    const cursor = withCursor ? this.standaloneCursor : undefined
    let fresh = cursor === undefined
    this.standalone = this.world.request(
      node,
      { ...this.#http('GET'), lastEventId: cursor },
      {
        head: (status) => {
          this.#judge(status, sentAt, 'GET')
          if (status !== 200) this.#expectTrouble(status)
        },
        block: (text) => {
          const id = this.#position(text, fresh)
          if (id === undefined) return
          fresh = false
          this.standaloneCursor = id
          const data = dataOf(text)
          if (data) this.#message(JSON.parse(data), undefined)
        },
      },
    )
  }

  answer(node: SimulatedNode, question: Question): void {
    const nonce = `${this.name}:${question.call}:${++this.#nonces}`
    const { wireId } = question
    question.attempts++
    const call = this.calls.find(({ id }) => id === question.call)
    this.post(node, { id: wireId, result: { action: 'accept', content: { nonce } } }, (status) => {
      if (status === 202) {
        question.answered = true
        count('answered a question')
        // a handler that runs to its end, runs before anybody hears of it
        if (!this.world.deeds.answers.has(nonce) && !call?.cancelled && this.deleteSentAt === undefined) {
          this.violate(`202 for the answer ${nonce}, which nobody has got`)
        }
      } else if (status === 400) {
        const awaited = question.attempts === 1 && call && !call.over && !call.cancelled
        if (awaited && this.deleteSentAt === undefined && this.trouble.calmSince(call.sentAt)) {
          this.violate('400 for an answer that is awaited')
        }
      } else this.#expectTrouble(status)
    })
  }

  cancel(node: SimulatedNode, call: Call): void {
    call.cancelled = true
    this.post(node, { method: 'notifications/cancelled', params: { requestId: call.id } }, (status) => {
      if (status !== 202) this.#expectTrouble(status)
    })
  }

  notify(node: SimulatedNode): void {
    this.post(node, { method: 'notifications/roots/list_changed' }, (status) => {
      if (status !== 202) this.#expectTrouble(status)
    })
  }

  setLevel(node: SimulatedNode, level: string): void {
    this.#write(node, 'logging/setLevel', { level }, this.level, level)
  }

  subscribe(node: SimulatedNode, uri: string, on: boolean): void {
    const journalled = this.uris.get(uri) ?? new Journalled()
    this.uris.set(uri, journalled)
    this.#write(node, on ? 'resources/subscribe' : 'resources/unsubscribe', { uri }, journalled, on || undefined)
  }

  delete(node: SimulatedNode): void {
    const sentAt = this.#now
    this.deleteSentAt ??= sentAt
    this.world.request(node, this.#http('DELETE'), {
      head: (status) => {
        if (status === 200) this.deletedAt ??= this.#now
        else if (status === 404) this.#judge(status, sentAt, 'DELETE')
        else this.#expectTrouble(status)
      },
    })
  }

  /** Somebody else tries the session's id. */
  foreign(node: SimulatedNode, principal: string, method: 'POST' | 'GET' | 'DELETE'): void {
    const sentAt = this.#now
    const body = { jsonrpc: '2.0', id: 1, method: 'tools/list' }
    this.world.request(
      node,
      { ...this.#http(method, method === 'POST' ? body : undefined), principal },
      {
        head: (status) => {
          if (status !== 404 && (status !== 503 || this.trouble.calmSince(sentAt)))
            this.violate(`${status} for a foreign principal`)
        },
      },
    )
  }

  /** Another session's cursor. */
  foreignCursor(node: SimulatedNode, lastEventId: string): void {
    const sentAt = this.#now
    this.world.request(
      node,
      { ...this.#http('GET'), lastEventId },
      {
        head: (status) => {
          if (status === 400) return
          if (status < 300) this.violate(`${status} for a cursor of another session`)
          if (status === 404) this.#judge(status, sentAt, 'GET')
          else this.#expectTrouble(status)
        },
      },
    )
  }

  #write(node: SimulatedNode, method: string, params: object, journalled: Journalled, value: unknown): void {
    const sentAt = this.#now
    const done = journalled.write(value, sentAt)
    this.post(node, { id: this.#ids++, method, params }, (status, body) => {
      const { result } = (body ?? {}) as { result?: unknown }
      if (status === 200 && result) done(this.#now, this.trouble.calmSince(sentAt) ? 0 : STALENESS)
      // over a stream, what happens to the answer can be a lost connection as well
      else if (status !== 200) this.#expectTrouble(status)
    })
  }

  #follow(call: Call, node: SimulatedNode, http: Parameters<World['request']>[1]): void {
    const sentAt = this.#now
    const resumed = http.method === 'GET'
    let status = 0
    const mine = () => call.connection === connection
    const connection: Connection = this.world.request(node, http, {
      head: (code) => {
        status = code
        this.#judge(code, sentAt, resumed ? 'resume' : 'tools/call')
      },
      text: (text) => {
        if (mine() && status === 200 && text !== '') this.#message(JSON.parse(text), call)
      },
      block: (text) => {
        if (!mine()) return
        const id = this.#position(text, false)
        if (id !== undefined) call.lastEventId = id
        const data = dataOf(text)
        if (data) this.#message(JSON.parse(data), call)
      },
      end: () => {
        if (!mine()) return
        if (status === 204) this.#finished(call)
        else if (status === 404) call.over = true
        else if (status === 400) {
          call.over = true
          if (this.deleteSentAt === undefined) this.violate(`400 for the cursor ${call.lastEventId}`)
        } else if (status !== 200) {
          this.#expectTrouble(status)
          if (!resumed) call.over = true
        }
        this.#disconnected(call)
      },
      broken: () => {
        if (mine()) this.#disconnected(call)
      },
    })
    call.connection = connection
  }

  #disconnected(call: Call): void {
    call.connection = undefined
    if (call.lastEventId === undefined) call.over = true
  }

  /** The server says that there is no more to come. */
  #finished(call: Call): void {
    call.over = true
    if (!call.response && !call.cancelled && this.deleteSentAt === undefined) {
      this.violate(`the stream of call ${call.id} (${call.tool}) ended without a response`)
    }
  }

  #message(message: Record<string, unknown>, call: Call | undefined) {
    const session = sessionIn(message)
    if (session !== undefined && session !== this.session) this.violate(`a message of session ${session}`)
    if (!('method' in message)) return this.#response(message as unknown as JSONRPCMessage, call)
    const params = message.params as Record<string, unknown>
    switch (message.method) {
      case 'elicitation/create':
        this.questions.push({ wireId: String(message.id), call: params.call, answered: false, attempts: 0 })
        break
      case 'notifications/progress':
        if (!call || params.progressToken !== call.id) return this.violate('progress of another call')
        if (params.progress !== call.progress + 1)
          this.violate(`call ${call.id}: progress ${params.progress} after ${call.progress}`)
        call.progress = Number(params.progress)
        break
      case 'notifications/message': {
        const { nonce } = params.data as { nonce: string }
        if (this.told.includes(nonce)) this.violate(`notification ${nonce} came twice`)
        this.told.push(nonce)
        count('a notification')
        break
      }
      default:
    }
  }

  #response(message: JSONRPCMessage, call: Call | undefined) {
    const { id, result, error } = message as {
      id?: unknown
      result?: Record<string, unknown>
      error?: { data?: unknown }
    }
    if (!call || id !== call.id) return this.violate(`an answer to ${String(id)} where none belongs`)
    if (call.response) return this.violate(`a second answer to call ${call.id}`)
    call.response = message
    call.over = true
    if (
      this.deletedAt !== undefined &&
      result &&
      this.trouble.calmSince(call.sentAt) &&
      this.#now > this.deletedAt + 500
    )
      this.violate(`a result ${this.#now - this.deletedAt} ms after DELETE was answered`)
    if (error) {
      const { reason } = (error.data ?? {}) as { reason?: string }
      count(reason ?? 'another error')
      return this.#failed(call, error)
    }
    count('a result')
    if (this.world.deeds.started.filter((one) => one.session === this.session && one.call === call.id).length > 1)
      count('a result of a request that was run again')
    if (result?.principal !== this.principal) this.violate(`the principal was ${String(result?.principal)}`)
    if (call.progress !== call.steps)
      this.violate(`call ${call.id}: a result after progress ${call.progress}/${call.steps}`)
    if (call.tool === 'state') this.#checkState(call, result as Record<string, unknown>)
    if (call.tool.startsWith('ask') && !String(result?.answer).startsWith(`${this.name}:${call.id}:`))
      this.violate(`call ${call.id} was given the answer ${String(result?.answer)}`)
  }

  #failed(call: Call, error: { data?: unknown }) {
    const what = `call ${call.id} (${call.tool}) failed: ${JSON.stringify(error)}`
    if (call.cancelled || this.deleteSentAt !== undefined) return
    if (this.trouble.calmSince(call.sentAt)) return this.violate(`${what} without trouble`)
    if ((error.data as { reason?: string } | undefined)?.reason !== 'outcome-unknown') {
      if (!this.trouble.store) this.violate(what)
    } else if (TOOLS[call.tool].safe && !this.trouble.store && this.version >= '2025-11-25') {
      this.violate(`${what} although it can be repeated`)
    }
  }

  #checkState(call: Call, result: Record<string, unknown>): void {
    const now = this.#now
    const levels = this.level.allowed(call.sentAt, now)
    if (!levels.includes(result.level))
      this.violate(`the level was ${String(result.level)}, not one of ${levels.map(String)}`)
    for (const [uri, journalled] of this.uris) {
      const is = (result.subscriptions as string[]).includes(uri) || undefined
      if (!journalled.allowed(call.sentAt, now).includes(is))
        this.violate(`${uri} was ${is ? 'subscribed' : 'not subscribed'}`)
    }
  }

  /** Each event of a stream comes once, in order, with none left out. */
  #position(text: string, fresh: boolean): string | undefined {
    const id = /^id: (.*)$/m.exec(text)?.[1]
    if (id === undefined) return undefined
    const { stream, position } = cursorOf(id)
    const last = this.#positions.get(stream)
    const event = dataOf(text) !== undefined
    if (last === undefined || (fresh && position >= last + (event ? 1 : 0))) {
      if (stream !== 'standalone' && position !== (event ? 1 : 0)) this.violate(`${stream} begins at ${position}`)
    } else if (position !== last + (event ? 1 : 0)) this.violate(`${stream}: ${position} after ${last}`)
    this.#positions.set(stream, position)
    return id
  }

  /** 404 means gone, and gone means 404. */
  #judge(status: number, sentAt: number, what: string): void {
    const now = this.#now
    count(`${status} for ${what}`)
    if (status === 404) {
      count(this.deleteSentAt === undefined ? '404 after expiry' : '404 after DELETE')
      if (this.deleteSentAt === undefined && now < this.#secureUntil)
        this.violate(`404 for ${what}, but the session is there`)
      return
    }
    if (status >= 300 && status !== 400) return
    const bound = this.deleteSentAt !== undefined && this.trouble.calmSince(this.deleteSentAt) ? 0 : STALENESS
    if (this.deletedAt !== undefined && sentAt > this.deletedAt + bound)
      this.violate(`${status} for ${what}, ${sentAt - this.deletedAt} ms after DELETE was answered`)
    if (sentAt > this.#usedAt + IDLE_TTL + STALENESS && this.trouble.calmSince(this.#usedAt))
      this.violate(`${status} for ${what}, ${sentAt - this.#usedAt} ms after the session was last used`)
    if (this.trouble.calmSince(sentAt)) this.#secureUntil = Math.max(this.#secureUntil, sentAt + 0.8 * IDLE_TTL)
    this.#usedAt = now
  }

  /** 503 only when something is wrong; anything else but success, never. */
  #expectTrouble(status: number): void {
    if (status === 404 || status === 0 || status === 200) return
    if (status !== 503) this.violate(`answered by ${status}`)
    else if (this.trouble.calmSince(this.#now)) this.violate('503 without trouble')
  }

  #http(method: 'POST' | 'GET' | 'DELETE', body?: unknown): Parameters<World['request']>[1] {
    return { method, body, session: this.session, principal: this.principal, version: this.version }
  }
}

function dataOf(block: string): string | undefined {
  return /^data: (.+)$/m.exec(block)?.[1]
}

function sessionIn(message: Record<string, unknown>): unknown {
  const { params, result } = message as Record<string, { session?: unknown; data?: { session?: unknown } } | undefined>
  return params?.session ?? params?.data?.session ?? result?.session
}
