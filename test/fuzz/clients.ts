/** Good clients, whose sessions the fuzz misuses: each of its own principal, with a name that must be seen in no other session. */
import http from 'node:http'
import type { Random } from '../harness/random.js'
import type { Target } from './target.js'

/** Sessions at a time. */
const SESSIONS = 24
/** Exchanges until one is left for another. */
const USES = 400

/** Nobody is one, too. */
const OWNERS = [['alice'], ['bob'], []] as const

const VERSIONS = ['2025-11-25', '2025-11-25', '2025-06-18', '2025-03-26'] as const

export interface Client {
  id: string
  /** What its server says of it. */
  name: string
  owner: string | undefined
  version: string
  /** The last event id that it got. */
  lastEventId: string | undefined
  uses: number
  /** It has tried to end its session, or somebody may have. */
  ended: boolean
}

/** What clients call themselves, wherever it stands in an answer. */
export const NAMES = /marker-\d+-end/g

export interface Got {
  status: number
  headers: http.IncomingHttpHeaders
  text: string
}

export class Clients {
  readonly #clients: Client[] = []
  #last: Client | undefined
  #count = 0

  constructor(
    private readonly target: Target,
    private readonly random: Random,
  ) {}

  async one(): Promise<Client> {
    const at = this.random.below(SESSIONS)
    const client = this.#clients[at]
    if (client && !client.ended && client.uses-- > 0) return client
    if (client) this.#last = client
    const fresh = await this.#open()
    this.#clients[at] = fresh
    // Most are left as clients leave: without a word.
    if (client && !client.ended && this.random.chance(0.3)) {
      client.ended = true
      await send(this.target, { method: 'DELETE', headers: headersOf(client) })
    }
    return fresh
  }

  /** One whose session may have ended. */
  ended(): Client | undefined {
    return this.#last
  }

  /** A call whose answer is known. */
  async isServed(client: Client): Promise<string | undefined> {
    const said = `said-${this.#count++}`
    const params = { name: 'echo', arguments: { text: said } }
    const { status, text } = await send(this.target, {
      method: 'POST',
      headers: { ...headersOf(client), ...JSON_HEADERS },
      body: JSON.stringify({ jsonrpc: '2.0', id: said, method: 'tools/call', params }),
    })
    return client.ended || (status === 200 && text.includes(said)) ? undefined : `a good call got ${status} ${text}`
  }

  async #open(): Promise<Client> {
    const name = `marker-${this.#count++}-end`
    const owner = this.random.pick(OWNERS)[0]
    const version = this.random.pick(VERSIONS)
    const headers = { ...JSON_HEADERS, ...(owner !== undefined && { authorization: `Bearer ${owner}` }) }
    const params = { protocolVersion: version, capabilities: {}, clientInfo: { name, version: '1' } }
    const answer = await send(this.target, {
      method: 'POST',
      headers,
      body: JSON.stringify({ jsonrpc: '2.0', id: 'init', method: 'initialize', params }),
    })
    const id = answer.headers['mcp-session-id']
    if (answer.status !== 200 || typeof id !== 'string') {
      throw new Error(`initialize of a good client: ${answer.status} ${answer.text}`)
    }
    const client = { id, name, owner, version, lastEventId: undefined, uses: USES, ended: false }
    await send(this.target, {
      method: 'POST',
      headers: { ...headersOf(client), ...JSON_HEADERS },
      body: JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }),
    })
    return client
  }
}

export const JSON_HEADERS = { accept: 'application/json, text/event-stream', 'content-type': 'application/json' }

/** What names a client's session, and who it is. */
export function headersOf({ id, owner, version }: Client): Record<string, string> {
  return {
    'mcp-session-id': id,
    ...(version >= '2025-06-18' && { 'mcp-protocol-version': version }),
    ...(owner !== undefined && { authorization: `Bearer ${owner}` }),
  }
}

/** A whole exchange of a good client. */
function send(target: Target, sent: { method: string; headers: Record<string, string>; body?: string }): Promise<Got> {
  return new Promise((resolve, reject) => {
    const { method, headers, body } = sent
    const { port } = target
    const request = http.request({ host: '127.0.0.1', port, path: '/node', method, headers, agent: false })
    request.on('error', reject).on('response', (response) => {
      let text = ''
      response
        .setEncoding('utf8')
        .on('data', (chunk: string) => {
          text += chunk
        })
        .on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
        .on('error', reject)
    })
    request.end(body)
  })
}
