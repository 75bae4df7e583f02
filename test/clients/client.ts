/** What the tests want of any client, whoever made it. Each family has an adapter of its own. */
import type { Elicited } from '../harness/client.js'

/** What comes from the server unasked. */
export interface Ears {
  /** Notifications. */
  heard(method: string, params: Record<string, unknown> | undefined): void
  /** The server asks the user, or the model. */
  asked(message: string): Promise<Elicited>
}

export interface Connected {
  /** The text of a tool's answer; rejects if the call failed. */
  call(tool: string, args?: Record<string, unknown>): Promise<string>
  /** Lets go of the session. */
  close(): Promise<void>
}

/** How a call ends whose node goes away: with that error, or not before the client's own timeout, if it has one. */
export type Ending = 'outcome-unknown' | 'own timeout'

export interface RealClient {
  /** Package and version, as docs/clients.md lists them. */
  name: string
  /** Why it cannot run here, if it cannot: what would have to be done. */
  missing?: string
  /** The protocol revision that it agrees on with a server of today. */
  revision: string
  /** With the settings it comes with. Whoever connects closes. */
  connect(url: string, ears: Ears): Promise<Connected>
  /** The tool whose question it can answer. */
  question: 'ask' | 'sample'
  /** Whether it passes notifications on to its user. */
  passesNotifications: boolean
  /** How a call ends that outlasts the drain of its node, or whose node is killed. */
  unfinished: { drain: Ending; kill: Ending }
}

/** The text of a tool's answer. */
export function textOf(result: unknown): string {
  const { content, isError } = result as { content?: { text?: string }[]; isError?: boolean }
  const text = content?.[0]?.text ?? ''
  if (isError) throw new Error(text)
  return text
}
