/**
 * A client of one of the SDK lines. These retry no POST, and come back to the stream that answers one only after an event with
 * an id has come through: a connection that is cut before leaves them waiting for ever, so the call is taken from them.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Tool, Work } from '../chaos/tools.js'
import { connect } from '../harness/client.js'
import type { ClientCalls } from '../harness/client-parts.js'
import { parseEventId } from '../harness/event-id.js'
import type { Sdk } from '../harness/server.js'
import { type Caller, numberIn, outcomeOf } from './caller.js'
import { type Call, type Log, Numbers, type Outcome } from './log.js'

/** What has come through may still be on its way to the SDK's parser, in ms. */
const PARSING = 200

/** A call on its way. */
interface Running {
  call: Call
  /** Ids of its stream that have come through. */
  events: number
  status?: number
  stop(outcome: Outcome, why: string): void
}

interface Message {
  id?: string | number
  method?: string
  params?: Record<string, unknown>
}

export class SdkCaller implements Caller {
  readonly numbers = new Numbers()
  readonly tools: readonly Tool[] = ['short', 'short', 'short_once', 'short_once', 'long', 'long_once', 'ask']
  #sdk!: ClientCalls
  /** By key of the call. */
  #running = new Map<string, Running>()
  /** The key of the call that a stream answers. */
  #streams = new Map<string, string>()
  /** What each elicitation asked: the key of its call. */
  #asked = new Map<string | number, string>()
  #standalone = 0

  private constructor(
    readonly kind: Sdk,
    readonly name: string,
    private readonly log: Log,
  ) {}

  /** Whoever connects one closes it. */
  static async connect(url: string, line: Sdk, name: string, log: Log): Promise<SdkCaller> {
    const caller = new SdkCaller(line, name, log)
    caller.#sdk = await connect(line, {
      name,
      url: new URL(url),
      handlers: {
        elicitation: (message) => ({ action: 'accept', content: { username: message, email: 'user@example.com' } }),
      },
      fetch: caller.#fetch,
      onmessage: (message) => caller.#received(message),
    })
    return caller
  }

  get sessionId(): string {
    return this.#sdk.sessionId() ?? ''
  }

  async call(tool: Tool, work: Work): Promise<Call> {
    const { log } = this
    const call = log.begin(this.name, this.kind, tool, work)
    const abort = new AbortController()
    const stopped = new Promise<{ outcome: Outcome; why: string }>((resolve) => {
      const stop = (outcome: Outcome, why: string) => resolve({ outcome, why })
      this.#running.set(work.key, { call, events: 0, stop })
    })
    const answer = this.#sdk.callTool(
      tool,
      { ...work },
      {
        onprogress: ({ progress }) => call.progress.push(progress),
        onresumptiontoken: (token) => {
          this.#streams.set(parseEventId(token).stream, work.key)
          const running = this.#running.get(work.key)
          if (running) running.events++
        },
        signal: abort.signal,
        timeout: 600_000,
      },
    )
    const ended = answer.then(
      ({ content }) => {
        const text = String((content as { text?: string }[] | undefined)?.[0]?.text)
        return { outcome: outcomeOf(text, work.key), why: text }
      },
      (error) => classify(error, this.#running.get(work.key)),
    )
    // line 1 would tell the server that it cancels even what has been answered
    const taken = stopped.finally(() => abort.abort())
    const { outcome, why } = await Promise.race([ended, taken])
    this.#running.delete(work.key)
    return log.end(call, outcome, why)
  }

  async close(): Promise<void> {
    for (const { stop } of this.#running.values()) stop('hung', 'given up')
    await this.#sdk.close()
  }

  /** Each message, on its way to the SDK. */
  #received(message: Message): void {
    const number = numberIn(message)
    if (number !== undefined) this.numbers.hear(number, this.log.now)
    else if (message.method === 'elicitation/create' && message.id !== undefined) {
      this.#asked.set(message.id, String(message.params?.message))
    }
  }

  readonly #fetch = async (url: string | URL, init: RequestInit = {}): Promise<Response> => {
    const body = typeof init.body === 'string' ? (JSON.parse(init.body) as Message) : undefined
    const lastEventId = new Headers(init.headers).get('last-event-id') ?? undefined
    const response = await fetch(url, init)
    const { status } = response
    const what = `${this.name}: ${init.method} ${body?.method ?? ''}`
    if (status === 503) this.log.refused(this.name)
    else if (status === 504) this.log.fault(`${what}: no answer in all the time that the balancer waits`)
    else if (status >= 400 && status !== 502 && !(status === 400 && body && !body.method)) {
      this.log.fault(`${what} after ${lastEventId} was answered ${status}`)
    }
    if (init.method === 'GET' && !lastEventId && response.ok && ++this.#standalone > 1) {
      this.log.forgetful.add(this.name)
    }
    const asked = body && !body.method && this.#running.get(this.#asked.get(body.id ?? '') ?? '')
    if (asked && status === 202) asked.call.accepted = true
    const isCall = body?.method === 'tools/call'
    const key = isCall
      ? (body.params?.arguments as Work | undefined)?.key
      : this.#streams.get(parseEventId(lastEventId).stream)
    const running = key === undefined ? undefined : this.#running.get(key)
    if (!running) return response
    if (isCall) running.status = status
    else running.call.resumed++
    if (status === 204) running.stop('empty', 'nothing left on its stream, and no answer came')
    if (!response.headers.get('content-type')?.startsWith('text/event-stream')) return response
    const { events } = running
    return watched(response, (how) => {
      // what the SDK was told an id of it comes back to
      if (running.events > events) return
      if (isCall && how === 'ended') running.stop('empty', 'its stream ended in good order without anything')
      else running.stop('cut', `its stream ${how} before an event id came`)
    })
  }
}

/** The response; `over` is called a moment after its body has ended, with how. */
function watched(response: Response, over: (how: 'ended' | 'broke') => void): Response {
  const reader = response.body?.getReader()
  if (!reader) return response
  const end = (how: 'ended' | 'broke') => void delay(PARSING).then(() => over(how))
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read()
        if (!done) return controller.enqueue(value)
        controller.close()
        end('ended')
      } catch (error) {
        controller.error(error)
        end('broke')
      }
    },
    cancel: (reason) => reader.cancel(reason),
  })
  return new Response(body, { status: response.status, headers: response.headers })
}

function classify(thrown: unknown, running: Running | undefined): { outcome: Outcome; why: string } {
  const error = thrown as Error & { code?: unknown; data?: { reason?: string }; cause?: unknown }
  const why = `${error.name} ${error.code ?? ''}: ${error.message} ${error.cause ?? ''} (${running?.status})`
  if (error.data?.reason === 'outcome-unknown') return { outcome: 'unknown', why }
  if (error.data?.reason === 'messages-lost') return { outcome: 'lost', why }
  switch (running?.status) {
    case 404:
      return { outcome: 'gone', why }
    case 503:
      return { outcome: 'away', why }
    case 502:
    case 504:
    // no head came
    case undefined:
      return { outcome: 'cut', why }
  }
  const cut = /fetch failed|terminated|JSON|other side closed|ECONNRE|socket|stream ended|[Cc]losed/
  return { outcome: cut.test(why) && running?.events === 0 ? 'cut' : 'wrong', why }
}
