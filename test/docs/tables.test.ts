/** What the documentation lists is what the sources say: answers on the wire, options, flags, methods. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { HttpReply } from '../../src/wire/message.js'
import { Refusal, type RefusalName, refuse } from '../../src/wire/refusal.js'
import { ROOT, read, sectionOf, tableAfter } from './blocks.js'

/** What docs/contract.md calls each refusal; the compiler sees to it that none is missing. */
const CASES: Record<RefusalName, string> = {
  notJson: 'the body is not JSON',
  notJsonRpc: 'the body is not a JSON-RPC message',
  batch: "a batch, and the session's revision is not 2025-03-26",
  initializeInBatch: '`initialize` in a batch',
  idInUse: 'a request whose id is that of a request still running',
  alreadyInitialized: '`initialize` on a session that is initialized',
  acceptPost: '`POST` whose `Accept` lacks `application/json` or `text/event-stream`',
  acceptGet: '`GET` whose `Accept` lacks `text/event-stream`',
  contentType: '`Content-Type` is not `application/json`',
  tooLarge: 'the body is over `maxBodySize`',
  protocolVersion: '`MCP-Protocol-Version` unsupported, except on `initialize`',
  noSessionId: 'no session id, and not `initialize`',
  notInitialized: 'the transport by itself: not `initialize`, and there is no session yet',
  sessionNotFound: "session unknown, expired, deleted, or somebody else's",
  lastEventId: '`Last-Event-ID` malformed, of another session, or of what is no longer kept',
  notAwaited: 'a response that nobody waits for',
  tooManySubscriptions: 'a subscription beyond `limits.subscriptions`',
  batchTooLong: 'a batch of more messages than `limits.batch`, or of more requests than `limits.requests`',
  tooDeep: 'a body nested more deeply than `limits.depth`',
  idTooLong: 'an id or progress token over `limits.id`',
  headerTooLong: 'a header that is read is over `limits.header`',
  initializeTooLarge: '`initialize` over `limits.initialize`',
  tooManyRequests: 'more running requests of a session than `limits.requests`',
  tooManyStreams: 'more open streams of a session than `limits.streams`',
  tooManySessions: 'more sessions in use by a principal than `limits.principal`',
  rateLimited: '`rateLimit` says that the client should wait',
  busy: 'too many requests name sessions that are not theirs, and this one waited for 10 s, or more of them wait than may',
  full: 'the node has as many sessions in use as `maxLiveSessions`, or as many streams as `limits.allStreams`',
  method: 'another method',
  origin: '`Origin` not allowed',
  host: '`Host` not allowed',
  unavailable: 'the backend is away',
  unreached: 'the node that a message is for does not answer',
  draining: 'this node is draining',
  internal: 'your factory or a hook failed',
}

it('the table of answers on the wire is what the handler answers', () => {
  const rows = tableAfter('docs/contract.md', '## Answers on the wire')
  const answers = Object.entries(CASES).map(([name, text]) => [text, ...answerOf(name as RefusalName)])
  expect(sorted(rows)).toEqual(sorted(answers))
})

/** Status, code and headers as the table writes them. */
function answerOf(name: RefusalName): string[] {
  const cells: string[] = []
  const reply: HttpReply = {
    closed: false,
    send(status, headers, body) {
      const { error } = JSON.parse(body ?? '') as { error: { code: number } }
      const notable = Object.entries(headers).filter(([header]) => header !== 'content-type')
      const shown = notable.map(
        ([header, value]) => `\`${header.replace(/\b[a-z]/g, (c) => c.toUpperCase())}: ${value}\``,
      )
      cells.push(String(status), String(error.code), shown.join(', '))
    },
    stream() {
      throw new Error('a refusal is no stream')
    },
    onclose() {},
  }
  refuse(reply, new Refusal(name), 1)
  return cells
}

function sorted(rows: string[][]): string[][] {
  return [...rows].sort(([a = ''], [b = '']) => (a < b ? -1 : 1))
}

describe('options', () => {
  const documented = ['Sessions', 'Memory of a node', 'On the wire', 'Who may do what', 'Hooks and errors']
    .flatMap((heading) => tableAfter('docs/options.md', `## ${heading}`))
    .map(([name = '', value = '']) => [name.slice(1, -1), value] as const)
  const options = [
    ...membersOf('src/options.ts', 'SessionOptions'),
    ...membersOf('src/options.ts', 'SessionHandlerOptions'),
    ...membersOf('src/options.ts', 'WireOptions'),
    ...membersOf('src/session/session.ts', 'SessionHooks'),
    ...membersOf('src/http/guard.ts', 'GuardOptions'),
  ]

  it('the page on options lists each option of the handler, once', () => {
    expect(documented.map(([name]) => name).sort()).toEqual(options.map(({ name }) => name).sort())
  })

  it('their defaults are those of the docstrings', () => {
    for (const { name, docs } of options) {
      const number = /Default (\d[\d,]*(?: (?:MiB|days|minutes))?)/.exec(docs)?.[1]
      if (number !== undefined)
        expect([name, number]).toEqual(documented.find(([documentedName]) => documentedName === name))
    }
  })

  it('it lists each limit, once, with its default', () => {
    const rows = tableAfter('docs/options.md', '## Limits').map(([name = '', value = '']) => [name.slice(1, -1), value])
    const limits = membersOf('src/wire/limits.ts', 'Limits')
    expect(rows).toEqual(limits.map(({ name, docs }) => [name, /Default (\d[\d,]*(?: Mi)?)/.exec(docs)?.[1]]))
  })

  it.each([
    ['SQLite', 'src/backend/sqlite.ts', ['SqliteOptions'], ['now']],
    ['Redis and Valkey', 'src/backend/redis.ts', ['RedisSettings'], []],
    ['PostgreSQL', 'src/backend/postgres.ts', ['PostgresSettings'], []],
    ['Memory', 'src/backend/memory.ts', ['MemoryOptions'], ['now', 'retention']],
  ])('the page on backends lists each option of %s', (heading, file, interfaces, left) => {
    const names = interfaces.flatMap((name) => membersOf(file, name).map((member) => member.name))
    const section = sectionOf('docs/backends.md', `## ${heading}`)
    const listed = [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name)
    for (const name of names.filter((name) => !left.includes(name))) expect(listed).toContain(name)
  })

  it.each([
    ['## serve', ['serve'], 10],
    ['## sessions', ['sessions', 'list'], 2],
    ['## sessions', ['sessions', 'show'], 2],
    ['## sessions', ['sessions', 'delete'], 2],
  ])('the page on serve lists, under %s, each flag of %j', (heading, command, least) => {
    const help = spawnSync(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...command, '--help'], {
      encoding: 'utf8',
    })
    const flags = [...help.stdout.matchAll(/^ {2}(--[\w-]+(?: <[^>]+>)?)/gm)].map(([, flag]) => `\`${flag}\``)
    expect(flags.length).toBeGreaterThanOrEqual(least)
    expect(tableAfter('docs/serve.md', heading).map(([flag]) => flag)).toEqual(flags)
  })
})

describe('members', () => {
  it.each([
    ['docs/options.md', '## The handler', 'src/handler.ts', 'SessionHandler'],
    ['docs/operations.md', '## Health', 'src/handler.ts', 'NodeStatus'],
    ['docs/backends.md', '## A session store of your own', 'src/backend/backend.ts', 'SessionStore'],
  ])('%s lists, under %s, each member of %s %s', (page, heading, file, name) => {
    const listed = tableAfter(page, heading).map(([cell = '']) => /^`(\w+)/.exec(cell)?.[1])
    expect(listed.sort()).toEqual(
      membersOf(file, name)
        .map((member) => member.name)
        .sort(),
    )
  })
})

/** Members of an interface, with the comment before each. */
function membersOf(file: string, name: string): { name: string; docs: string }[] {
  const body = new RegExp(`^export interface ${name}\\b[^{]*\\{\\n([\\s\\S]*?)^\\}`, 'm').exec(read(file))?.[1]
  if (body === undefined) throw new Error(`${file} has no interface ${name}`)
  return [...body.matchAll(/((?:^ {2}\/\*\*[\s\S]*?\*\/\n)?)^ {2}(?:readonly )?(\w+)\??[:(]/gm)].map(
    ([, docs = '', member = '']) => ({
      name: member,
      docs: docs.replace(/\n\s*\* ?/g, ' '),
    }),
  )
}
