/** A client, of whatever kind, as those who give it work see it. */
import type { Tool, Work } from '../chaos/tools.js'
import type { Call, Numbers } from './log.js'

export interface Caller {
  readonly name: string
  /** Its revision, or its SDK line. */
  readonly kind: string
  /** Of the session that it keeps. */
  readonly sessionId: string
  /** On its standalone stream. */
  readonly numbers: Numbers
  readonly tools: readonly Tool[]
  /** Resolves when the call has ended, however it did. */
  call(tool: Tool, work: Work): Promise<Call>
  close(): Promise<void>
}

/** The number in what {@link numbered} makes; undefined: the message is not of these. */
export function numberIn(message: { method?: unknown; params?: unknown }): number | undefined {
  if (message.method !== 'notifications/message') return undefined
  const match = /^number (\d+)$/.exec(String((message.params as { data?: unknown } | undefined)?.data))
  return match ? Number(match[1]) : undefined
}

export const numbered = (number: number): string => `number ${number}`

/** What a tool's answer says of the call with this key. */
export function outcomeOf(text: string, key: string): 'ok' | 'unanswered' | 'wrong' {
  const match = /^(unanswered )?(\S*) \d+$/.exec(text)
  if (match?.[2] !== key) return 'wrong'
  return match[1] ? 'unanswered' : 'ok'
}
