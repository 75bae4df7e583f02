#!/usr/bin/env node
/** The `mcp-roam` command: reads the command line, and turns what goes wrong into one line and an exit code. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { BACKENDS, SHARED_BACKENDS } from './backend/backend-url.js'
import { Failure } from './command-error.js'
import { serve } from './serve/serve.js'
import { deleteSession, listSessions, type SessionsOptions, showSession } from './sessions/sessions.js'
import { INHERITED } from './stdio/child-env.js'

interface ServeFlags {
  port: number
  host: string
  path: string
  backend?: string
  workers: number
  drainNotice?: number
  drainTimeout: number
  env?: Record<string, string>
  allowedHost?: string[]
  allowedOrigin?: string[]
}

function program(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  const program = new Command('mcp-roam')
    .description('MCP sessions that survive restarts and can be served by any node.')
    .version(version)
    .enablePositionalOptions()
    .exitOverride()
    // What is quoted there may be an address whose option was mistyped.
    .configureOutput({ outputError: (text, write) => write(text.replace(/\/\/[^@\s]*@/g, '//***@')) })
  program
    .command('serve')
    .description('Serves a stdio MCP server over Streamable HTTP. Each session gets a process of its own.')
    .usage('[options] -- <command> [args...]')
    .argument('<command>', 'the stdio server, looked up in PATH; no shell is involved')
    .argument('[args...]', 'its arguments')
    .option('--port <number>', 'port to listen on; 0: any free one', parsePort, 3000)
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--path <path>', 'path of the MCP endpoint', parsePath, '/mcp')
    .addOption(backendOption(`where sessions live: ${BACKENDS} (default: a SQLite file of this command)`))
    .option('--workers <number>', 'processes that serve, each a node of its own', parseCount, 1)
    .option('--drain-notice <seconds>', NOTICE, parseSeconds)
    .addOption(
      new Option('--drain-timeout <seconds>', 'how long running calls may then take to finish')
        .argParser(parseSeconds)
        .default(10_000, '10'),
    )
    .option('--env <KEY[=VALUE]>', 'give the server a variable, with a value or from this environment', addVariable)
    .option('--allowed-host <name>', 'accept requests addressed to this name, too', collect)
    .option('--allowed-origin <origin>', 'accept requests from web pages of this origin, too', collect)
    .passThroughOptions()
    .addHelpText('after', SERVE_HELP)
    .action(async (command: string, args: string[], flags: ServeFlags) => {
      const { env = {}, allowedHost: allowedHosts = [], allowedOrigin: allowedOrigins = [], ...rest } = flags
      const options = { ...rest, env, allowedHosts, allowedOrigins, command, args }
      await serve(options, (line) => process.stderr.write(`${line}\n`))
    })
  addSessions(program)
  return program
}

function addSessions(program: Command): void {
  const sessions = program
    .command('sessions')
    .description('Looks at the sessions of a backend, and ends them; while nodes use it, too.')
  const add = (usage: string, description: string) =>
    sessions
      .command(usage)
      .description(description)
      .addOption(backendOption(`where sessions live: ${SHARED_BACKENDS}`).makeOptionMandatory())
      .option('--json', 'as JSON, one object in a line', false)
  add('list', 'Lists all sessions.').action((options: SessionsOptions) => listSessions(options, process.stdout))
  add('show', 'Shows what is known of one session.')
    .argument('<id>')
    .action((id: string, options: SessionsOptions) => showSession(id, options, process.stdout))
  add('delete', "Ends a session for good, as its client's DELETE would, on all nodes.")
    .argument('<id>')
    .action((id: string, options: SessionsOptions) => deleteSession(id, options, process.stdout))
}

/** As a variable, an address with a password does not show up in the list of processes. */
function backendOption(description: string): Option {
  return new Option('--backend <url>', description).env('MCP_ROAM_BACKEND')
}

const NOTICE =
  'how long to serve on after SIGTERM, /healthz saying 503, before anything is refused ' +
  '(default: 5, which a load balancer may take to learn of it; on a loopback address 0)'

const SERVE_HELP = `
Of this environment the server sees ${INHERITED.join(', ')}, and what --env gives it.

With --workers SIGTERM may take the notice and twice the timeout: one worker serves until the others are done.

On a loopback address only requests addressed to localhost are accepted, and of web pages only those of localhost.
On other addresses web pages must be named with --allowed-origin, and names are checked if --allowed-host is given.
There is no authentication: put a proxy that authenticates in front of any address that others can reach.

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

/** In milliseconds. */
function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (!/^\d+(\.\d+)?$/.test(text) || seconds > 86_400) {
    throw new InvalidArgumentError('It must be a number of seconds, up to a day.')
  }
  return seconds * 1_000
}

function parsePath(text: string): string {
  if (!/^\/[^\s?#]*$/.test(text)) throw new InvalidArgumentError('It must begin with a slash, e.g. /mcp.')
  if (text === '/healthz') throw new InvalidArgumentError('That path tells whether this process is well.')
  return text
}

function addVariable(text: string, env: Record<string, string> = {}): Record<string, string> {
  const equals = text.indexOf('=')
  const name = equals < 0 ? text : text.slice(0, equals)
  const value = equals < 0 ? process.env[name] : text.slice(equals + 1)
  if (name === '') throw new InvalidArgumentError('It must begin with a name.')
  if (value === undefined)
    throw new InvalidArgumentError('That variable is not set here; give it a value with KEY=VALUE.')
  return { ...env, [name]: value }
}

function collect(text: string, all: string[] = []): string[] {
  return [...all, text]
}

/** Exit codes: 0, 1 (it could not be done), 2 (the command line is wrong). */
async function run(): Promise<number> {
  try {
    await program().parseAsync()
    return 0
  } catch (error) {
    // Commander has said it all already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    if (!(error instanceof Failure)) throw error
    process.stderr.write(`mcp-roam: ${error.message}\n`)
    return error.exitCode
  }
}

// Whoever read our log may leave; that is no reason to stop serving.
process.stderr.on('error', () => {})
process.exit(await run())
