/**
 * A real SDK client that calls the nodes' tools, and what became of each call. The SDKs' clients retry no POST, and resume
 * the stream that answers one only after an event with an id has come through: a connection that is cut before leaves
 * nothing to come back with. Only such a call may be lost.
 */
import { randomUUID } from 'node:crypto'
import { connect } from '../harness/client.js'
import type { ClientCalls } from '../harness/client-parts.js'
import { parseEventId } from '../harness/event-id.js'
import type { Sdk } from '../harness/server.js'
import { within } from '../harness/within.js'
import type { Tool, Work } from './tools.js'

/**
 * `ok`; `unknown`: a JSON-RPC error says that nobody knows; `unanswered`: the tool asked its user and got no answer; `cut`: the
 * connection ended before the client had any event id; `away`: 503, the store or the node was not to be had; `hung`: not
 * ended in time; `wrong`: anything else.
 */
export type Outcome = 'ok' | 'unknown' | 'unanswered' | 'cut' | 'away' | 'hung' | 'wrong'

export interface Call extends Work {
  tool: Tool
  client: string
  outcome?: Outcome
  /** Of `away`, `hung`, `wrong`. */
  why?: string
  /** In ms since the test began. */
  begun: number
  ended: number
  /** Process that answered. */
  pid?: number
  /** Whether an event id of its stream has come through. */
  resumable: boolean
  /** Of the answer to its POST. */
  status?: number
  /** The last one. */
  token?: string
  /** How often its stream was resumed. */
  resumed: number
  progress: number[]
  /** What `notify` said, on the call's stream and aside. */
  own: number[]
  aside: number[]
}

/** What has come through may still be on its way to the SDK's parser, in ms. */
const PARSING = 100

interface Message {
  id?: string | number
  method?: string
  params?: Record<string, unknown>
}

export class ChaosClient {
  readonly calls: Call[] = []
  /** Responses, by JSON-RPC id, that came more than once; and event ids that came back with a stream that did not know them. */
  readonly doubled: string[] = []
  /** HTTP status of each answer that was not 2xx, with the method. */
  readonly refusals: string[] = []
  initializes = 0
  readonly sessionIds = new Set<string>()
  /** Streams that the SDK resumed, and then lost sight of: the resumed connection was cut before an event id came. */
  lostCursors = 0
  /** GETs that name no event: the first one, and those of an SDK that forgot where it was. */
  cursorless = 0
  /** Answers to elicitations that were accepted (202), and that were not. */
  accepted = new Set<string>()
  rejected = new Set<string>()
  #running = new Map<string, { call: Call; lose(why: string): void }>()
  /** By stream: the call that it answers, and how many event ids have come. */
  #streams = new Map<string, { key: string; tokens: number }>()
  #responses = new Set<string | number>()
  #sdk!: ClientCalls
  /** The elicitation that each wire id stands for. */
  #asked = new Map<string | number, string>()
  #standing: () => void = () => {}
  #t0 = performance.now()

  private constructor(
    readonly sdk: Sdk,
    readonly name: string,
  ) {}

  /** Connected, with its standalone stream open. Whoever connects one closes it. */
  static async connect(sdk: Sdk, url: string, name: string = sdk): Promise<ChaosClient> {
    const client = new ChaosClient(sdk, name)
    const stands = new Promise<void>((resolve) => {
      client.#standing = resolve
    })
    client.#sdk = await connect(sdk, {
      name: 'chaos',
      url: new URL(url),
      handlers: {
        elicitation: (message) => ({ action: 'accept', content: { username: message, email: 'user@example.com' } }),
      },
      fetch: client.#fetch,
      onmessage: (message) => client.#received(message),
    })
    await within(stands, 'an open standalone stream')
    return client
  }

  /** Calls a tool; resolves when the call has ended, or `bound` ms have passed. */
  async call(tool: Tool, work: Omit<Work, 'key'>, bound: number): Promise<Call> {
    const key = randomUUID()
    const begun = performance.now() - this.#t0
    const call: Call = {
      ...{ tool, key, ...work, client: this.name, begun, ended: 0 },
      ...{ resumable: false, resumed: 0, progress: [], own: [], aside: [] },
    }
    this.calls.push(call)
    const abort = new AbortController()
    let lost: string | undefined
    const lose = (why: string) => {
      lost ??= why
      abort.abort()
    }
    this.#running.set(key, { call, lose })
    const answer = this.#sdk.callTool(
      tool,
      { key, ...work },
      {
        onprogress: ({ progress }) => call.progress.push(progress),
        onresumptiontoken: (token) => {
          call.resumable = true
          call.token = token
          const { stream } = parseEventId(token)
          this.#streams.set(stream, { key, tokens: (this.#streams.get(stream)?.tokens ?? 0) + 1 })
        },
        signal: abort.signal,
        timeout: 10 * bound,
      },
    )
    try {
      const { content, isError } = await within(answer, HUNG, bound)
      const text = String((content as { text?: string }[] | undefined)?.[0]?.text)
      const pid = /^(unanswered )?(\S*) (\d+)$/.exec(text)
      call.pid = Number(pid?.[3])
      if (isError || pid?.[2] !== key) [call.outcome, call.why] = ['wrong', text]
      else call.outcome = pid[1] ? 'unanswered' : 'ok'
    } catch (error) {
      const { outcome, why } = classify(error, call, lost)
      call.outcome = outcome
      call.why = why
      abort.abort()
    } finally {
      this.#running.delete(key)
      call.ended = performance.now() - this.#t0
    }
    return call
  }

  close(): Promise<void> {
    return this.#sdk.close()
  }

  /** Each message, on its way to the SDK. */
  #received(message: Message): void {
    const { id, method, params } = message
    if (method === undefined && id !== undefined) {
      if (this.#responses.has(id)) this.doubled.push(`response ${id}`)
      this.#responses.add(id)
    } else if (method === 'elicitation/create' && id !== undefined) {
      if (this.#asked.has(id)) this.doubled.push(`elicitation ${id}`)
      this.#asked.set(id, String(params?.message))
    } else if (method === 'notifications/message') {
      const [key, where, step] = String(params?.data).split(' ')
      const call = this.calls.find((each) => each.key === key)
      if (call) call[where === 'own' ? 'own' : 'aside'].push(Number(step))
    }
  }

  readonly #fetch = async (url: string | URL, init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers)
    const body = typeof init.body === 'string' ? (JSON.parse(init.body) as Message) : undefined
    const session = headers.get('mcp-session-id')
    if (session) this.sessionIds.add(session)
    if (body?.method === 'initialize') this.initializes++
    const key = body?.method === 'tools/call' ? (body.params?.arguments as Work | undefined)?.key : undefined
    const lastEventId = headers.get('last-event-id')
    const resumed = this.#streams.get(parseEventId(lastEventId ?? undefined).stream)
    if (init.method === 'GET' && !lastEventId) this.cursorless++
    const answers = body && body.method === undefined ? this.#asked.get(body.id ?? '') : undefined
    let response: Response
    try {
      response = await fetch(url, init)
    } catch (error) {
      if (answers) this.rejected.add(answers)
      throw error
    }
    if (!response.ok) this.refusals.push(`${init.method} ${response.status}`)
    const called = key === undefined ? undefined : this.#running.get(key)?.call
    if (called) called.status = response.status
    if (answers) (response.status === 202 ? this.accepted : this.rejected).add(answers)
    if (init.method === 'GET' && response.ok && !lastEventId) this.#standing()
    if (!response.ok || !response.headers.get('content-type')?.startsWith('text/event-stream')) return response
    if (key !== undefined) {
      return watched(response, () => {
        const running = this.#running.get(key)
        if (running && !running.call.resumable) running.lose('its stream ended before an event id came')
      })
    }
    const running = resumed && this.#running.get(resumed.key)
    if (!running) return response
    running.call.resumed++
    const { tokens } = resumed
    return watched(response, () => {
      if (this.#streams.get(parseEventId(lastEventId ?? undefined).stream)?.tokens !== tokens) return
      if (!this.#running.has(resumed.key)) return
      this.lostCursors++
      running.lose('its resumed stream ended before an event id came, and the SDK forgot where it was')
    })
  }
}

const HUNG = 'the end of the call'

/** The response; `ended` is called a moment after its body has ended, one way or the other. */
function watched(response: Response, ended: () => void): Response {
  const reader = response.body?.getReader()
  if (!reader) return response
  const end = () => void setTimeout(ended, PARSING)
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read()
        if (!done) return controller.enqueue(value)
        controller.close()
      } catch (error) {
        controller.error(error)
      }
      end()
    },
    cancel: (reason) => reader.cancel(reason),
  })
  return new Response(body, { status: response.status, headers: response.headers })
}

function classify(thrown: unknown, call: Call, lost: string | undefined): { outcome: Outcome; why: string } {
  const error = thrown as Error & { code?: unknown; data?: { reason?: string }; cause?: unknown }
  const why = `${error.name} ${String(error.code ?? '')}: ${error.message} ${String(error.cause ?? '')}`
  if (error.message.includes(HUNG)) return { outcome: 'hung', why: lost ?? why }
  if (error.data?.reason === 'outcome-unknown') return { outcome: 'unknown', why }
  if (lost !== undefined) return { outcome: 'cut', why: lost }
  if (call.resumable) return { outcome: 'wrong', why }
  if (/unavailable, try again|shutting down, try again/.test(why)) return { outcome: 'away', why }
  // the balancer could not reach the node, or got no answer from it in time
  if (call.status === 502 || call.status === 504) return { outcome: 'cut', why: `${call.status}` }
  const cut = /fetch failed|terminated|JSON|other side closed|ECONNRE|socket|stream ended|[Cc]losed/
  return { outcome: cut.test(why) ? 'cut' : 'wrong', why: `${why} (${call.status})` }
}
