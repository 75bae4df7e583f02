/** What must be true of the answer to a call. */
import type { JSONRPCMessage } from '../../src/index.js'
import type { Call } from './call.js'
import type { Client } from './client.js'
import { TOOLS } from './server.js'
import { count } from './tally.js'
import type { Trouble } from './trouble.js'
import type { World } from './world.js'

export class AnswerRules {
  constructor(
    private readonly client: Client,
    private readonly world: World,
    private readonly trouble: Trouble,
    private readonly violate: (what: string) => void,
  ) {}

  judge(message: JSONRPCMessage, call: Call | undefined): void {
    const { id, result, error } = message as {
      id?: unknown
      result?: Record<string, unknown>
      error?: { data?: unknown }
    }
    if (!call || id !== call.id) {
      this.violate(`an answer to ${String(id)} where none belongs`)
      return
    }
    if (call.response) {
      this.violate(`a second answer to call ${call.id}`)
      return
    }
    call.response = message
    call.over = true
    if (error) this.#checkError(call, error)
    else this.#checkResult(call, result ?? {})
  }

  #checkResult(call: Call, result: Record<string, unknown>): void {
    const { life, session, name, principal } = this.client
    const { clock, deeds } = this.world
    const late = clock.now - (life.deletedAt ?? clock.now)
    if (late > 500 && this.trouble.calmSince(call.sentAt)) this.violate(`a result ${late} ms after DELETE was answered`)
    count('a result')
    if (deeds.started.filter((one) => one.session === session && one.call === call.id).length > 1)
      count('a result of a request that was run again')
    if (result.principal !== principal) this.violate(`the principal was ${String(result.principal)}`)
    if (call.progress !== call.steps)
      this.violate(`call ${call.id}: a result after progress ${call.progress}/${call.steps}`)
    if (call.tool === 'state') this.#checkState(call, result)
    if (call.tool.startsWith('ask') && !String(result.answer).startsWith(`${name}:${call.id}:`))
      this.violate(`call ${call.id} was given the answer ${String(result.answer)}`)
  }

  #checkError(call: Call, error: { data?: unknown }): void {
    const { reason } = (error.data ?? {}) as { reason?: string }
    count(reason ?? 'another error')
    const what = `call ${call.id} (${call.tool}) failed: ${JSON.stringify(error)}`
    if (call.cancelled || !this.client.life.wanted) return
    if (this.trouble.calmSince(call.sentAt)) this.violate(`${what} without trouble`)
    else if (reason !== 'outcome-unknown') {
      if (!this.trouble.store) this.violate(what)
    } else if (TOOLS[call.tool].safe && !this.trouble.store && this.client.version >= '2025-11-25') {
      this.violate(`${what} although it can be repeated`)
    }
  }

  #checkState(call: Call, result: Record<string, unknown>): void {
    const now = this.world.clock.now
    const levels = this.client.level.allowed(call.sentAt, now)
    if (!levels.includes(result.level))
      this.violate(`the level was ${String(result.level)}, not one of ${levels.map(String)}`)
    for (const [uri, journalled] of this.client.uris) {
      const is = (result.subscriptions as string[]).includes(uri) || undefined
      if (!journalled.allowed(call.sentAt, now).includes(is))
        this.violate(`${uri} was ${is ? 'subscribed' : 'not subscribed'}`)
    }
  }
}
