/** mcp-roam as its users get it: the built package, its default options. */
import type { RequestListener } from 'node:http'
import { createSessionHandler, type ServerInstance, type SessionHandlerOptions } from 'mcp-roam'
import { memory } from 'mcp-roam/memory'
import { sqlite } from 'mcp-roam/sqlite'

export function roam(
  factory: () => ServerInstance,
  file: string | undefined,
  options: SessionHandlerOptions = {},
): RequestListener {
  const backend = file === undefined ? memory() : sqlite({ file })
  return createSessionHandler(factory, { backend, ...options }).node
}
