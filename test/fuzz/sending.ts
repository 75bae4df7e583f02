/** How an exchange of the fuzz goes over the wire, and what comes of it. */
import http from 'node:http'
import net from 'node:net'
import type { Random } from '../harness/random.js'
import { type Client, type Got, headersOf, JSON_HEADERS } from './clients.js'
import type { Damage, Exchange } from './exchanges.js'
import type { Target } from './target.js'

/** No exchange may take longer, in ms: the slowest tool takes a third of a second. */
const PATIENCE = 20_000

/** `unsendable`: Node's own client refused it; `endless`: no end in time; `cut`: the connection ended without an answer. */
export type Outcome = { kind: 'answered'; got: Got } | { kind: 'unsendable' } | { kind: 'endless' } | { kind: 'cut' }

/** The headers that an exchange goes out with. */
export function resolveHeaders(
  { method, whose, headers }: Exchange,
  who: Client,
  random: Random,
): Record<string, string> {
  const all: Record<string, string | undefined> = {
    ...JSON_HEADERS,
    ...(method === 'GET' && { accept: 'text/event-stream', 'content-type': undefined }),
    ...headersOf(who),
    ...headers,
  }
  if (whose === 'foreign') all.authorization = `Bearer ${who.owner === 'alice' ? 'bob' : 'alice'}`
  if (whose === 'unknown') all['mcp-session-id'] = `${random.below(2 ** 31)}-0000-4000-8000-${random.below(2 ** 31)}`
  if (whose === 'mangled') all['mcp-session-id'] = mangled(who.id, random)
  if (whose === 'none') delete all['mcp-session-id']
  const cursor = all['last-event-id']
  if (cursor === 'seen') all['last-event-id'] = who.lastEventId
  else if (cursor === 'beyond') all['last-event-id'] = who.lastEventId?.replace(/\d+$/, (digits) => `${digits}9`)
  else if (cursor === 'before') all['last-event-id'] = who.lastEventId?.replace(/\d+$/, '0')
  else if (cursor === 'foreign') all['last-event-id'] = `AAAAAAAAAAAA.standalone.${random.below(2 ** 31)}`
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

function mangled(id: string, random: Random): string {
  const other = changed(id, random)
  return other === id ? `${id}x` : other
}

function changed(id: string, random: Random): string {
  const at = random.below(id.length)
  const way = random.below(4)
  if (way === 0) return id.slice(0, at)
  if (way === 1) return `${id}${id.slice(at)}`
  if (way === 2) return id.toUpperCase()
  return `${id.slice(0, at)}${String.fromCharCode(33 + random.below(90))}${id.slice(at + 1)}`
}

export function send(target: Target, exchange: Exchange, headers: Record<string, string>): Promise<Outcome> {
  return exchange.way === 'raw' ? overSocket(target, exchange, headers) : overHttp(target, exchange, headers)
}

/** Whether an answer may go on for ever: the standalone stream, or one that is resumed. */
const isOpenEnded = (method: string, type: string | undefined): boolean =>
  method === 'GET' && type === 'text/event-stream'

async function overHttp(target: Target, exchange: Exchange, headers: Record<string, string>): Promise<Outcome> {
  const outcome = await onConnection(target, exchange, headers, target.agent)
  // A server may close an idle connection just when it is used again (RFC 9112, section 9.3.1): on one of its own it must work.
  return outcome === 'stale' ? ((await onConnection(target, exchange, headers, false)) as Outcome) : outcome
}

function onConnection(
  { port }: Target,
  { method, door, body, patience }: Exchange,
  headers: Record<string, string>,
  agent: http.Agent | false,
): Promise<Outcome | 'stale'> {
  const sent = method === 'GET' || method === 'HEAD' ? undefined : body
  // Node frames the bodies of few methods by itself; one without a frame would be taken for the next request.
  const framed = sent === undefined ? headers : { ...headers, 'content-length': String(sent.length) }
  return new Promise((resolve) => {
    let request: http.ClientRequest
    try {
      request = http.request({ host: '127.0.0.1', port, path: `/${door}`, method, headers: framed, agent })
    } catch {
      return resolve({ kind: 'unsendable' })
    }
    const settle = (outcome: Outcome | 'stale') => {
      clearTimeout(timer)
      resolve(outcome)
    }
    const timer = setTimeout(() => {
      settle({ kind: 'endless' })
      request.destroy()
    }, PATIENCE)
    request.on('error', () => settle(request.reusedSocket ? 'stale' : { kind: 'cut' }))
    request.on('response', (response) => {
      let text = ''
      const got = (): Got => ({ status: response.statusCode ?? 0, headers: response.headers, text })
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => settle({ kind: 'answered', got: got() })).on('error', () => settle({ kind: 'cut' }))
      if (!isOpenEnded(method, response.headers['content-type'])) return
      setTimeout(() => {
        settle({ kind: 'answered', got: got() })
        request.destroy()
      }, patience)
    })
    request.end(sent)
  })
}

function overSocket(target: Target, exchange: Exchange, headers: Record<string, string>): Promise<Outcome> {
  const { method, damage, patience } = exchange
  return new Promise((resolve) => {
    const socket = net.connect(target.port, '127.0.0.1')
    let text = ''
    const settle = (outcome: Outcome) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(outcome)
    }
    const timer = setTimeout(() => settle({ kind: 'endless' }), PATIENCE)
    const answered = (): Outcome => {
      const [, status, rest = ''] = /^HTTP\/1\.1 (\d{3})([\s\S]*)$/.exec(text) ?? []
      return status === undefined
        ? { kind: 'cut' }
        : { kind: 'answered', got: { status: Number(status), headers: {}, text: rest } }
    }
    socket.setEncoding('utf8')
    socket.on('data', (chunk) => {
      text += chunk
      if (isOpenEnded(method, /^content-type: (\S+)/im.exec(text)?.[1])) setTimeout(() => settle(answered()), patience)
    })
    socket.on('close', () => settle(answered())).on('error', () => settle(answered()))
    void write(socket, bytesOf(exchange, headers), damage)
  })
}

function bytesOf({ method, door, body = Buffer.alloc(0), damage }: Exchange, headers: Record<string, string>): Buffer {
  const length = damage.kind === 'length' ? Math.floor(damage.at * 1e6) : body.length
  const framing =
    damage.kind === 'chunked' ? 'Transfer-Encoding: chunked' : `Content-Length: ${length}\r\nConnection: close`
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  if (headers.host === undefined) lines.unshift('Host: localhost')
  const head = Buffer.from([`${method} /${door} HTTP/1.1`, ...lines, framing, '', ''].join('\r\n'), 'latin1')
  return damaged(Buffer.concat([head, body]), damage)
}

function damaged(whole: Buffer, { kind, at, bytes }: Damage): Buffer {
  const where = Math.floor(at * whole.length)
  switch (kind) {
    case 'cut':
      return whole.subarray(0, where)
    case 'flip':
      return Buffer.from(whole.map((byte, index) => (index === where ? byte ^ (bytes[0] ?? 1) : byte)))
    case 'double':
      return Buffer.concat([whole, whole.subarray(where)])
    case 'insert':
      return Buffer.concat([whole.subarray(0, where), bytes, whole.subarray(where)])
    default:
      return whole
  }
}

/** What is sent slowly comes in two pieces; after the last one nothing more comes. */
async function write(socket: net.Socket, bytes: Buffer, { kind, at }: Damage): Promise<void> {
  if (kind === 'slow') {
    const where = Math.floor(at * bytes.length)
    socket.write(bytes.subarray(0, where))
    await new Promise((resolve) => setTimeout(resolve, 20))
    bytes = bytes.subarray(where)
  }
  // A client that closes its half is one that has gone: only whole requests are waited for.
  if (kind === 'none' || kind === 'slow' || kind === 'flip') socket.write(bytes)
  else socket.end(bytes)
}
