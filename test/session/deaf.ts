/** Nodes whose clock a test moves. */
import { memory } from '../../src/backend/memory.js'
import type { SessionHandlerOptions } from '../../src/index.js'
import { gated } from '../harness/gated-backend.js'
import { scripted } from '../harness/scripted-server.js'
import { serve } from '../harness/serve.js'

export const SECOND = 1000
export const MINUTE = 60 * SECOND
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR

/** A node that hears nothing of the others. */
export function deaf(options: SessionHandlerOptions = {}, script = {}) {
  const inner = memory()
  const backend = gated(inner)
  const factory = scripted(script)
  const handler = serve(factory, { backend: { sessions: backend.sessions, events: backend.events }, ...options })
  return { inner, backend, factory, handler }
}
