/** `mcp-roam serve` on the command line: its flags, their checks and its help. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { backendOption } from '../backend/backend-option.js'
import { BACKENDS } from '../backend/backend-url.js'
import { ENCRYPTION_VARIABLE, encryptionOf, encryptionOption } from '../encryption.js'
import { INHERITED } from '../stdio/child-env.js'
import { API_KEY_VARIABLE } from './auth/api-keys.js'
import { addAuthFlags } from './auth/flags.js'
import { type AuthFlags, authOptions } from './auth/options.js'
import type { Rate } from './rate.js'
import { serve } from './serve.js'
import { SECRET_VARIABLE, secretOf, secretOption } from './signing.js'

interface ServeFlags extends AuthFlags {
  port: number
  host: string
  path: string
  backend?: string
  encryptionKeysFile?: string
  secretFile?: string
  workers: number
  drainNotice?: number
  drainTimeout: number
  maxSessions: number
  idle: number
  sessionTtl: number
  rate?: Rate
  env?: Record<string, string>
  allowedHost?: string[]
  allowedOrigin?: string[]
}

export function addServe(program: Command): void {
  const serving = program
    .command('serve')
    .description('Serves a stdio MCP server over Streamable HTTP. Each session gets a process of its own.')
    .usage('[options] -- <command> [args...]')
    .argument('<command>', 'the stdio server, looked up in PATH; no shell is involved')
    .argument('[args...]', 'its arguments')
    .option('--port <number>', 'port to listen on; 0: any free one', parsePort, 3000)
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--path <path>', 'path of the MCP endpoint', parsePath, '/mcp')
    .addOption(backendOption(`where sessions live: ${BACKENDS} (default: a SQLite file of this command)`))
    .addOption(encryptionOption())
    .addOption(secretOption())
    .option('--workers <number>', 'processes that serve, each a node of its own', parseCount, 1)
    .option('--max-sessions <number>', 'live sessions, and so server processes, of each worker', parseMany, 100)
    .addOption(secondsOption('--idle <seconds>', 'when the process of a session without work ends', 300))
    .addOption(
      secondsOption('--session-ttl <seconds>', 'when a session that nobody uses is forgotten', 7 * DAY, parseLifetime),
    )
    .option('--rate <count/seconds>', RATE, parseRate)
    .option('--drain-notice <seconds>', NOTICE, parseSeconds)
    .addOption(secondsOption('--drain-timeout <seconds>', 'how long running calls may then take to finish', 10))
    .option('--env <KEY[=VALUE]>', 'give the server a variable, with a value or from this environment', addVariable)
    .option('--allowed-host <name>', 'accept requests addressed to this name, too', collect)
    .option('--allowed-origin <origin>', 'accept requests from web pages of this origin, too', collect)
    .passThroughOptions()
    .addHelpText('after', HELP)
    .action(async (command: string, args: string[], flags: ServeFlags) => {
      const { env = {}, allowedHost: allowedHosts = [], allowedOrigin: allowedOrigins = [], ...rest } = flags
      const encryption = encryptionOf(flags.encryptionKeysFile)
      const secret = secretOf(flags.secretFile)
      const auth = authOptions(flags, flags.host)
      const secrets = { ...(encryption && { encryption }), ...(secret && { secret }) }
      const options = { ...rest, ...secrets, env, allowedHosts, allowedOrigins, auth, command, args }
      await serve(options, (line) => process.stderr.write(`${line}\n`))
    })
  addAuthFlags(serving)
}

/** In seconds. */
const DAY = 86_400

const RATE =
  'new sessions that each client address may begin in that time, in each worker; an IPv6 network of 64 bits is one ' +
  'address (default: any number)'

const NOTICE =
  'how long to serve on after SIGTERM, /healthz saying 503, before anything is refused ' +
  '(default: 5, which a load balancer may take to learn of it; on a loopback address 0)'

const HELP = `
Of this environment the server sees ${INHERITED.join(', ')}, and what --env gives it.

A session keeps its process while it has a call running or a stream open, as most clients have. When there are as many as
--max-sessions, a new one takes the place of one without work; if there is none, it is refused with 503.

With --workers SIGTERM may take the notice and twice the timeout: one worker serves until the others are done.

On a loopback address only requests addressed to localhost are accepted, and of web pages only those of localhost.
On other addresses web pages must be named with --allowed-origin, and names are checked if --allowed-host is given.

Anybody may call it unless it is given API keys, with --api-key-file or in ${API_KEY_VARIABLE} (commas between them), or
--issuer. Clients send a key or a token as "Authorization: Bearer"; a key also as X-API-Key.

Example:
  mcp-roam serve -- npx -y @modelcontextprotocol/server-everything`

function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError('It must be a number from 0 to 65535.')
  return port
}

function parseCount(text: string): number {
  const count = Number(text)
  if (!/^\d+$/.test(text) || count < 1 || count > 1_000)
    throw new InvalidArgumentError('It must be a number from 1 on.')
  return count
}

function parseMany(text: string): number {
  const count = Number(text)
  if (!/^\d+$/.test(text) || count < 1 || count > 100_000)
    throw new InvalidArgumentError('It must be a number from 1 to 100000.')
  return count
}

/** Given in seconds, kept in milliseconds. */
function secondsOption(flags: string, description: string, seconds: number, parse = parseSeconds): Option {
  return new Option(flags, description).argParser(parse).default(seconds * 1_000, String(seconds))
}

/** In milliseconds. */
function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (!/^\d+(\.\d+)?$/.test(text) || seconds > DAY) {
    throw new InvalidArgumentError('It must be a number of seconds, up to a day.')
  }
  return seconds * 1_000
}

/** In milliseconds. */
function parseLifetime(text: string): number {
  const seconds = Number(text)
  if (!/^\d+$/.test(text) || seconds < 1 || seconds > 366 * DAY) {
    throw new InvalidArgumentError('It must be a whole number of seconds from 1 on, up to a year.')
  }
  return seconds * 1_000
}

function parseRate(text: string): Rate {
  const [, count, seconds] = /^(\d{1,9})\/(\d{1,6})$/.exec(text) ?? []
  if (Number(count) >= 1 && Number(seconds) >= 1) return { count: Number(count), seconds: Number(seconds) }
  throw new InvalidArgumentError('It must be a number of sessions and of seconds, e.g. 10/60.')
}

function parsePath(text: string): string {
  if (!/^\/[^\s?#]*$/.test(text)) throw new InvalidArgumentError('It must begin with a slash, e.g. /mcp.')
  if (text === '/healthz') throw new InvalidArgumentError('That path tells whether this process is well.')
  return text
}

/** Variables that are for this command alone. */
const PRIVATE = new Set([API_KEY_VARIABLE, ENCRYPTION_VARIABLE, SECRET_VARIABLE])

/** Adds one variable to those of the flags before. */
function addVariable(text: string, env: Record<string, string> = {}): Record<string, string> {
  const equals = text.indexOf('=')
  const name = equals < 0 ? text : text.slice(0, equals)
  const value = equals < 0 ? process.env[name] : text.slice(equals + 1)
  if (name === '') throw new InvalidArgumentError('It must begin with a name.')
  if (PRIVATE.has(name)) throw new InvalidArgumentError('The server is not to know the keys of its callers, nor ours.')
  if (value === undefined)
    throw new InvalidArgumentError('That variable is not set here; give it a value with KEY=VALUE.')
  return { ...env, [name]: value }
}

function collect(text: string, all: string[] = []): string[] {
  return [...all, text]
}
