/** Nodes of a test's own process: handlers, which end with the test that started them. */
import { onTestFinished } from 'vitest'
import {
  createSessionHandler,
  type ServerFactory,
  type SessionHandler,
  type SessionHandlerOptions,
} from '../../src/index.js'
import { type GatedBackend, gated } from './gated-backend.js'
import { scripted } from './scripted-server.js'
import { type InitializeOptions, openSession, type WireClient } from './wire-client.js'

/** A node; servers that no test looks at answer everything with an empty result. */
export function serve(factory: ServerFactory = scripted(), options: SessionHandlerOptions = {}): SessionHandler {
  const handler = createSessionHandler(factory, options)
  onTestFinished(() => handler.close())
  return handler
}

/** A session that was opened on one node, and is in the backend for others. */
export async function stored(
  options: InitializeOptions & { backend?: GatedBackend } = {},
): Promise<{ backend: GatedBackend; client: WireClient }> {
  const { backend = gated(), ...rest } = options
  const client = await openSession(serve(scripted(), { backend }), rest)
  backend.calls.reset()
  return { backend, client }
}

/** The sessions of a node's store. */
export async function sessionIds({ sessions }: SessionHandler): Promise<string[]> {
  const ids: string[] = []
  for await (const { id } of sessions.list()) ids.push(id)
  return ids
}
