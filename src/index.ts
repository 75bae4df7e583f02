export type {
  Backend,
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
  StreamSlice,
} from './backend/backend.js'
export { DEFAULT_RETENTION, TOMBSTONE_TTL } from './backend/backend.js'
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
export type { JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse, RequestId } from './jsonrpc.js'
export type {
  AuthInfo,
  CloseReason,
  FactoryContext,
  MessageExtra,
  RequestContext,
  ResponseMode,
  ServerFactory,
  ServerInstance,
  Session,
  SessionHandlerOptions,
  SessionHooks,
  SessionInfo,
  SessionOptions,
  SessionState,
  Transport,
  WireOptions,
} from './options.js'
export { currentSession } from './session/current.js'
export { SessionTransport, type SessionTransportOptions } from './transport.js'
