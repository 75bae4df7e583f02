/** Sessions as they are in the store: what can be done for a request that needs no instance here. */
import type { SessionRecord, StoredSession } from '../backend/backend.js'
import type { BoundedBackend } from '../backend/bounded.js'
import { Unreadable } from '../backend/unavailable.js'
import { isResponse, type JSONRPCNotification, type JSONRPCResponse } from '../wire/jsonrpc.js'
import type { Caller, HttpRequest } from '../wire/message.js'
import { Refusal } from '../wire/refusal.js'
import type { LookUps } from './look-ups.js'
import { type Principal, samePrincipal } from './principal.js'
import type { Routing } from './routing.js'

export interface StoredSessionsHost {
  readonly backend: BoundedBackend
  readonly routing: Routing
  readonly lookUps: LookUps
  isLive(id: string): boolean
  /** Whether this request may restore the session. */
  mayRestore(record: SessionRecord, request: HttpRequest): Promise<boolean>
  /** The session is in use, and must not expire. */
  touch(record: SessionRecord): void
  /** The session has been deleted; `by`: it was this node that did it. Without its record if that cannot be read. */
  ondeleted(id: string, record: SessionRecord | undefined, by: 'this node' | 'another one'): Promise<void>
}

export class StoredSessions {
  constructor(private readonly host: StoredSessionsHost) {}

  /**
   * The session of a request. Whoever may not restore it has no such session.
   *
   * @throws Refusal if the request has no session.
   */
  async find(id: string, { principal, request }: Caller): Promise<StoredSession> {
    const { isLive, mayRestore } = this.host
    const stored = await this.#of(id, principal)
    if (!stored || !(isLive(id) || (await mayRestore(stored.record, request)))) throw new Refusal('sessionNotFound')
    return stored
  }

  /** Whether the session exists and belongs to the principal. */
  async owns(id: string, principal: Principal): Promise<boolean> {
    return (await this.#of(id, principal)) !== undefined
  }

  /**
   * Sends a message on to the instance that it is for, which is not here.
   *
   * @throws Refusal if it cannot be delivered.
   */
  async forward(session: StoredSession, message: JSONRPCResponse | JSONRPCNotification): Promise<void> {
    try {
      await this.host.routing.forward(session, message)
    } catch (error) {
      // Whoever waits for a message keeps the session from expiring. If nobody does, its client has used it all the same.
      this.host.touch(session.record)
      throw error
    }
    if (!isResponse(message)) this.host.touch(session.record)
  }

  /**
   * A client's DELETE.
   *
   * @throws Refusal if the request has no session.
   */
  async remove(id: string, caller: Caller): Promise<void> {
    const { record } = await this.find(id, caller)
    if (!(await this.#delete(id, record))) throw new Refusal('sessionNotFound')
  }

  /** Whether there is such a session, whomever it belongs to. */
  async exists(id: string): Promise<boolean> {
    const { lookUps } = this.host
    return lookUps.ids.isPossible(id) && (await lookUps.load(id)) !== undefined
  }

  /**
   * Ends a session for good, also one that nobody can read any more; false if there was none. Whoever asks for it is the operator:
   * the id is not checked.
   */
  async delete(id: string): Promise<boolean> {
    try {
      const stored = await this.host.backend.sessions.load(id)
      return stored !== undefined && (await this.#delete(id, stored.record))
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error
      return this.#delete(id, undefined)
    }
  }

  async #of(id: string, principal: Principal): Promise<StoredSession | undefined> {
    const { lookUps } = this.host
    return await lookUps.find(id, principal, async () => {
      const stored = await lookUps.load(id)
      return stored && samePrincipal(id, stored.record.principal, principal) ? stored : undefined
    })
  }

  /** False: somebody else has deleted it meanwhile. */
  async #delete(id: string, record: SessionRecord | undefined): Promise<boolean> {
    const { backend, routing, ondeleted } = this.host
    const held = await backend.sessions.delete(id)
    // The session is gone from here on; events that stay behind because the log is away expire by themselves.
    await Promise.all([
      held && routing.deleted(id, held),
      backend.events.delete(id).catch(() => {}),
      ondeleted(id, record, held ? 'this node' : 'another one'),
    ])
    return held !== undefined
  }
}
