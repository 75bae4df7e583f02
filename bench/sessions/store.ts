/** Fills a SQLite store with session records as the handler writes them. */
import { randomUUID } from 'node:crypto'
import { createSessionHandler } from 'mcp-roam'
import { sqlite } from 'mcp-roam/sqlite'
import { HEADERS, INITIALIZE } from '../client.js'
import { echoV2 } from '../servers/echo.js'

const TTL = 7 * 24 * 60 * 60_000
const AT_ONCE = 500

/** Creates `count` sessions in the file, and resolves with the ids of some of them, spread evenly. */
export async function fill(file: string, count: number, some: number): Promise<string[]> {
  const backend = sqlite({ file })
  const handler = createSessionHandler(echoV2, { backend })
  const body = JSON.stringify(INITIALIZE)
  const request = new Request('http://localhost/mcp', { method: 'POST', headers: HEADERS, body })
  const answer = await handler.fetch(request)
  const stored = await backend.sessions.load(answer.headers.get('mcp-session-id') ?? '')
  if (!stored) throw new Error(`initialize left no record: ${answer.status} ${await answer.text()}`)
  const template = stored.record
  template.journal.initialized = true

  const ids = Array.from({ length: count }, randomUUID)
  for (let i = 0; i < ids.length; i += AT_ONCE) {
    const created = ids.slice(i, i + AT_ONCE).map((id) => backend.sessions.create({ ...template, id }, TTL))
    if ((await Promise.all(created)).includes(false)) throw new Error('the store refused a record')
  }
  await handler.close()
  await backend.close?.()
  return Array.from({ length: some }, (_, i) => ids[Math.floor((i * count) / some)] ?? '')
}
