/** The MCP client's side of a session, by hand: what it sends, and how an answer is read. */

export const HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'mcp-protocol-version': '2025-11-25',
}

export const INITIALIZE = {
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'bench', version: '1.0.0' },
  },
}

/** Opens a session the way every client does, and resolves with its id. */
export async function openSession(url: string): Promise<string> {
  const answer = await post(url, INITIALIZE)
  const id = answer.headers.get('mcp-session-id')
  if (!answer.ok || id === null) throw new Error(`initialize: ${answer.status} ${await answer.text()}`)
  await answer.text()
  const accepted = await post(url, { jsonrpc: '2.0', method: 'notifications/initialized' }, id)
  if (!accepted.ok) throw new Error(`initialized: ${accepted.status} ${await accepted.text()}`)
  await accepted.text()
  return id
}

function post(url: string, message: object, session?: string): Promise<Response> {
  const headers = session === undefined ? HEADERS : { ...HEADERS, 'mcp-session-id': session }
  return fetch(url, { method: 'POST', headers, body: JSON.stringify(message) })
}

/** A call of the echo tool. */
export function echoCall(id: number, text: string): string {
  return `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"name":"echo","arguments":{"text":"${text}"}}}`
}

/** Throws unless the answer, JSON or one SSE event, is the result of `echoCall(id, text)`. */
export function checkEcho(id: number, text: string, status: number, body: string): void {
  const json = body.startsWith('{') ? body : (/^data: (\{.*)$/m.exec(body)?.[1] ?? 'null')
  const answer = JSON.parse(json) as { id?: number; result?: { content?: { text?: string }[] } } | null
  if (status !== 200 || answer?.id !== id || answer.result?.content?.[0]?.text !== text) {
    throw new Error(`call ${id} was answered ${status}: ${body.slice(0, 500)}`)
  }
}
