export type {
  Backend,
  CompleteBackend,
  EventBatch,
  EventLog,
  Journal,
  MessageBus,
  Retention,
  SessionRecord,
  SessionStore,
  SetStateOutcome,
  StateEntry,
  StreamInfo,
  StreamInit,
  StreamName,
  StreamSlice,
  StreamStanding,
} from './backend/backend.js'
export {
  BATCH_TTL,
  DEFAULT_RETENTION,
  FINISHED_TTL,
  MAX_STREAMS,
  RECENT_BATCHES,
  TOMBSTONE_TTL,
} from './backend/backend.js'
export type { Encryption } from './backend/sealed/keyring.js'
export { type EventStore, toEventStore } from './event-store.js'
export {
  createSessionHandler,
  type DrainOptions,
  type FetchOptions,
  type NodeStatus,
  type Notifier,
  type SessionDirectory,
  type SessionHandler,
} from './handler.js'
export type { SessionHandlerOptions, SessionOptions, WireOptions } from './options.js'
export { currentSession } from './session/current.js'
export type { ResponseMode } from './session/exchange.js'
export type {
  CloseReason,
  FactoryContext,
  RequestContext,
  ServerFactory,
  Session,
  SessionHooks,
  SessionInfo,
  SessionState,
} from './session/session.js'
export { SessionTransport, type SessionTransportOptions } from './transport.js'
export type { JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse, RequestId } from './wire/jsonrpc.js'
export type { Limits } from './wire/limits.js'
export type { AuthInfo, MessageExtra, ServerInstance, Transport } from './wire/sdk.js'
