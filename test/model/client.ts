/** A client and what must be true of everything it sees. It knows nothing of the nodes but that they are one server. */
import type { JSONRPCMessage } from '../../src/index.js'
import { AnswerRules } from './answers.js'
import type { Call, Question } from './call.js'
import { Journalled } from './journalled.js'
import { Lifetime } from './lifetime.js'
import { Positions } from './positions.js'
import type { Tool } from './server.js'
import { count } from './tally.js'
import { type Heard, STALENESS, type Trouble } from './trouble.js'
import type { Connection, HttpCall, SimulatedNode, World } from './world.js'

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
  /** Nonces of notifications that came, and under which event id. */
  readonly told = new Map<string, string>()
  readonly life: Lifetime
  readonly #answers: AnswerRules
  readonly #positions: Positions
  #ids = 1
  #nonces = 0

  constructor(
    readonly name: string,
    readonly version: string,
    private readonly world: World,
    private readonly trouble: Trouble,
    private readonly violate: (what: string) => void,
  ) {
    this.life = new Lifetime(world, trouble, violate)
    this.#answers = new AnswerRules(this, world, trouble, violate)
    this.#positions = new Positions(violate)
  }

  get #now(): number {
    return this.world.clock.now
  }

  get principal(): string {
    return `principal-${this.name}`
  }

  get pending(): Call[] {
    return this.calls.filter((call) => !call.over)
  }

  /** To be called at each moment when time is about to pass, or has passed. */
  look(): void {
    const { session } = this
    if (session === undefined) return
    const running = this.world.deeds.running(session).length > 0
    this.life.look(this.standalone?.open || this.pending.length > 0 || running)
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
        block: (block) => {
          if (!block.message?.result) this.violate(`initialize answered by ${JSON.stringify(block)}`)
        },
        end: () => {
          this.initializing = false
          if (status === 200 && session !== undefined) {
            this.session = session
            this.life.begin(sentAt)
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
        this.life.judge(code, sentAt, String(message.method ?? 'response'))
      },
      text: (text) => {
        body = text === '' ? undefined : JSON.parse(text)
      },
      block: ({ message }) => {
        if (message) body = message
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
    const { owner } = node
    const mayComeAgain = (heard: Heard) => this.trouble.mayBeSentAgain(heard)
    this.standalone = this.world.request(
      node,
      { ...this.#http('GET'), lastEventId: cursor },
      {
        head: (status) => {
          this.life.judge(status, sentAt, 'GET')
          if (status !== 200) this.#expectTrouble(status)
        },
        block: (block) => {
          this.#positions.see(block, { at: this.#now, owner }, fresh ? { mayComeAgain } : undefined)
          if (block.id === undefined) return
          fresh = false
          this.standaloneCursor = block.id
          if (block.message) this.#message(block.message, undefined, block.id)
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
        if (!this.world.deeds.answers.has(nonce) && !call?.cancelled && this.life.wanted) {
          this.violate(`202 for the answer ${nonce}, which nobody has got`)
        }
      } else if (status === 400) {
        const awaited = question.attempts === 1 && call && !call.over && !call.cancelled
        if (awaited && this.life.wanted && this.trouble.calmSince(call.sentAt)) {
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
    this.life.deleteSentAt ??= sentAt
    this.world.request(node, this.#http('DELETE'), {
      head: (status) => {
        if (status === 200) this.life.end()
        else if (status === 404) this.life.judge(status, sentAt, 'DELETE')
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
          if (status === 404) this.life.judge(status, sentAt, 'GET')
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

  #follow(call: Call, node: SimulatedNode, http: HttpCall): void {
    const sentAt = this.#now
    const { owner } = node
    const resumed = http.method === 'GET'
    let status = 0
    const mine = () => call.connection === connection
    const connection: Connection = this.world.request(node, http, {
      head: (code) => {
        status = code
        this.life.judge(code, sentAt, resumed ? 'resume' : 'tools/call')
      },
      text: (text) => {
        if (mine() && status === 200 && text !== '') this.#message(JSON.parse(text), call)
      },
      block: (block) => {
        if (!mine()) return
        this.#positions.see(block, { at: this.#now, owner })
        call.lastEventId = block.id ?? call.lastEventId
        if (block.message) this.#message(block.message, call)
      },
      end: () => {
        if (!mine()) return
        if (status === 204) this.#finished(call)
        else if (status === 404) call.over = true
        else if (status === 400) {
          call.over = true
          if (this.life.wanted) this.violate(`400 for the cursor ${call.lastEventId}`)
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
    if (!call.response && !call.cancelled && this.life.wanted) {
      this.violate(`the stream of call ${call.id} (${call.tool}) ended without a response`)
    }
  }

  #message(message: Record<string, unknown>, call: Call | undefined, id = '') {
    const session = sessionIn(message)
    if (session !== undefined && session !== this.session) this.violate(`a message of session ${session}`)
    if (!('method' in message)) return this.#answers.judge(message as unknown as JSONRPCMessage, call)
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
        // The same event may come again, where its position says so.
        if (this.told.has(nonce) && this.told.get(nonce) !== id) this.violate(`notification ${nonce} came twice`)
        this.told.set(nonce, id)
        count('a notification')
        break
      }
      default:
    }
  }

  /** 503 only when something is wrong; anything else but success, never. */
  #expectTrouble(status: number): void {
    if (status === 404 || status === 0 || status === 200) return
    if (status !== 503) this.violate(`answered by ${status}`)
    else if (this.trouble.calmSince(this.#now)) this.violate('503 without trouble')
  }

  #http(method: 'POST' | 'GET' | 'DELETE', body?: unknown): HttpCall {
    return { method, body, session: this.session, principal: this.principal, version: this.version }
  }
}

function sessionIn(message: Record<string, unknown>): unknown {
  const { params, result } = message as Record<string, { session?: unknown; data?: { session?: unknown } } | undefined>
  return params?.session ?? params?.data?.session ?? result?.session
}
