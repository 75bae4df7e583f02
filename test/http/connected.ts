/** A transport by itself, as its tests have it. */
import { expect, onTestFinished, vi } from 'vitest'
import { type Backend, SessionTransport, type SessionTransportOptions } from '../../src/index.js'
import { type Door, type DoorName, door, type Sent } from '../harness/door.js'
import type { Answer } from '../harness/reply.js'
import { ScriptedServer, UNANSWERED } from '../harness/scripted-server.js'
import { type InitializeOptions, openSession } from '../harness/wire-client.js'

export const ping = (id: string | number = 1) => ({ id, method: 'ping' })

/** A transport with a scripted server, and a door to it. */
export async function connected(
  name: DoorName,
  options: SessionTransportOptions = {},
  hydrate?: 'before' | 'after' | 'both',
) {
  const { sessionId, ...rest } = options
  const transport = new SessionTransport(hydrate ? rest : options)
  onTestFinished(() => transport.close())
  const server = new ScriptedServer({ hold: () => UNANSWERED })
  const closed = vi.fn()
  if (hydrate === 'before' || hydrate === 'both') await transport.hydrate(sessionId as string)
  await server.connect(transport)
  const own = transport.onclose
  transport.onclose = () => {
    own?.()
    closed()
  }
  if (hydrate === 'after' || hydrate === 'both') await transport.hydrate(sessionId as string)
  const through = await door(name, {
    node: (req, res) => transport.handleRequest(req, res),
    fetch: (request, fetchOptions) => transport.handleRequest(request, fetchOptions),
  })
  return { transport, server, closed, door: through }
}

/** A transport that has begun its session. */
export async function made(name: DoorName, backend: Backend, options: InitializeOptions = {}) {
  const at = await connected(name, { backend })
  return { ...at, client: await openSession(at.door, { capabilities: { sampling: {} }, ...options }) }
}

/** A request of no session. */
export const send = async (to: Door, sent: Sent): Promise<Answer> => (await to.open(sent)).answer()

export function expectRefused(answer: Answer, status: number, code: number): void {
  expect(answer).toMatchObject({ status, body: { jsonrpc: '2.0', error: { code } } })
}

/** The ways into a session. */
export const WAYS: Sent[] = [{ body: { jsonrpc: '2.0', ...ping() } }, { method: 'GET' }, { method: 'DELETE' }]
