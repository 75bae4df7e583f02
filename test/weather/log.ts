/** What happened in one cell of the table: written down by those who see it, and judged at the end. */
import type { Tool, Work } from '../chaos/tools.js'

/**
 * `ok`; `unknown`: an error says that the outcome is unknown; `lost`: an error says that messages were lost; `unanswered`: the
 * tool asked its user and got no answer; `cut`: the connection ended before there was an event id to come back with; `away`:
 * 503, and the client does not try again; `hung`: not ended in time; `empty`: a stream ended in good order without an
 * answer; `gone`: 404; `wrong`: anything else.
 */
export type Outcome = 'ok' | 'unknown' | 'lost' | 'unanswered' | 'cut' | 'away' | 'hung' | 'empty' | 'gone' | 'wrong'

export interface Call extends Work {
  client: string
  /** Revision of the client, or its SDK line. */
  kind: string
  tool: Tool
  outcome?: Outcome
  why?: string
  /** In ms since the cell began. */
  begun: number
  ended?: number
  /** What the tool reported, step by step. */
  progress: number[]
  /** How often the client came back to its stream. */
  resumed: number
  /** The client's answer to what the tool asked was accepted (202). */
  accepted: boolean
}

export class Log {
  readonly calls: Call[] = []
  /** 503s, each with when it came. */
  readonly refusals: { at: number; what: string }[] = []
  /** What must never be, seen as it happened. */
  readonly faults: string[] = []
  /** Clients of the SDKs that forgot where they were on their standalone stream: it is known of them (docs/operations.md). */
  readonly forgetful = new Set<string>()
  #t0 = performance.now()

  get now(): number {
    return Math.round(performance.now() - this.#t0)
  }

  begin(client: string, kind: string, tool: Tool, work: Work): Call {
    const begun = this.now
    const call: Call = { ...work, client, kind, tool, begun, progress: [], resumed: 0, accepted: false }
    this.calls.push(call)
    return call
  }

  end(call: Call, outcome: Outcome, why?: string): Call {
    // whoever gave up on it has said so
    if (call.outcome) return call
    call.outcome = outcome
    call.ended = this.now
    if (why !== undefined) call.why = why
    return call
  }

  refused(what: string): void {
    this.refusals.push({ at: this.now, what })
  }

  fault(what: string): void {
    this.faults.push(`${this.now} ms: ${what}`)
  }
}

/** The numbered notifications of one session: those that were sent, and those that came. */
export class Numbers {
  /** Stored, says the node that sent them; with when it said so. */
  readonly sure = new Map<number, number>()
  /** The node did not say; each may come or not. */
  readonly unsure = new Set<number>()
  /** In the order in which they came. */
  readonly heard: number[] = []
  /** When each came first. */
  readonly times = new Map<number, number>()
  /** The client was told that messages were lost. */
  told = 0

  hear(number: number, at: number): void {
    this.heard.push(number)
    if (!this.times.has(number)) this.times.set(number, at)
  }

  /** How long the slowest was on its way, in ms; what was stored before then counts from then. */
  delay(since: number): number {
    const delays = [...this.sure].map(([number, at]) => (this.times.get(number) ?? 0) - Math.max(at, since))
    return Math.max(0, ...delays)
  }

  get missing(): number[] {
    return [...this.sure.keys()].filter((number) => !this.heard.includes(number))
  }

  get doubled(): number[] {
    return this.heard.filter((number, index) => this.heard.indexOf(number) !== index)
  }

  /** Those that came after a later one. */
  get late(): number[] {
    const sure = this.heard.filter((number) => !this.unsure.has(number))
    return sure.filter((number, index) => sure.slice(0, index).some((before) => before > number))
  }
}
