/** A session as users' code sees it. */
import type { Journal, SessionRecord, SessionStore } from '../backend/backend.js'
import { isObject } from '../wire/jsonrpc.js'
import type { Session, SessionInfo, SessionState } from './session.js'
import { type StateLimits, StoredState } from './state.js'

export function infoOf(record: SessionRecord): SessionInfo {
  const { id, createdAt, protocolVersion, journal } = record
  return {
    id,
    createdAt: new Date(createdAt),
    protocolVersion,
    clientInfo: clientInfoOf(journal),
    clientCapabilities: clientCapabilitiesOf(journal),
    subscriptions: journal.subscriptions,
  }
}

/** Reads through to the newest record that `source` knows; `source` is set once there is one. */
export class SessionView implements Session {
  readonly state: SessionState
  source: { record: SessionRecord | undefined } | undefined

  constructor(
    store: SessionStore,
    readonly id: string,
    readonly restored: boolean,
    /** Set once a request has proved it. */
    public principal: string | undefined,
    private readonly begin: Pick<SessionRecord, 'createdAt' | 'protocolVersion' | 'journal'>,
    limits: StateLimits,
  ) {
    this.state = new StoredState(store, id, limits)
  }

  get createdAt(): Date {
    return new Date(this.#now.createdAt)
  }

  get protocolVersion(): string {
    return this.#now.protocolVersion
  }

  get clientInfo() {
    return clientInfoOf(this.#now.journal)
  }

  get clientCapabilities() {
    return clientCapabilitiesOf(this.#now.journal)
  }

  get subscriptions(): readonly string[] {
    return this.#now.journal.subscriptions
  }

  get #now() {
    return this.source?.record ?? this.begin
  }
}

function clientInfoOf({ initialize }: Journal): SessionInfo['clientInfo'] {
  const { clientInfo } = initialize
  return isObject(clientInfo) ? (clientInfo as SessionInfo['clientInfo']) : undefined
}

function clientCapabilitiesOf({ initialize }: Journal): Record<string, unknown> {
  return isObject(initialize.capabilities) ? initialize.capabilities : {}
}
