/** What mcp-roam's event ids are made of. Clients do not look into them; tests do, to forge some and to find a stream's log. */

export interface EventId {
  /** Of the session. */
  tag: string
  stream: string
  position: number
}

export function parseEventId(id: string | undefined): EventId {
  const [tag = '', stream = '', position] = String(id).split('.')
  return { tag, stream, position: Number(position) }
}
