#!/usr/bin/env node
/** The `mcp-roam` command: its subcommands, and how an error ends it, with one line on stderr and an exit code. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { CommandError } from './command-error.js'
import { addServe } from './serve/command.js'
import { addSessions } from './sessions/command.js'

function program(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  const program = new Command('mcp-roam')
    .description('MCP sessions that survive restarts and can be served by any node.')
    .version(version)
    .enablePositionalOptions()
    .exitOverride()
    // Commander quotes what it does not understand, which may be a backend's address with its password.
    .configureOutput({ outputError: (text, write) => write(text.replace(/\/\/[^@\s]*@/g, '//***@')) })
  addServe(program)
  addSessions(program)
  return program
}

/** Exit codes: 0, 1 (it could not be done), 2 (the command line is wrong). */
async function run(): Promise<number> {
  try {
    await program().parseAsync()
    return 0
  } catch (error) {
    // Commander has printed its own errors already; `--help` and `--version` end with one of code 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    if (!(error instanceof CommandError)) throw error
    process.stderr.write(`mcp-roam: ${error.message}\n`)
    return error.exitCode
  }
}

// When the reader of the log goes away, writing to it fails; serving goes on.
process.stderr.on('error', () => {})
process.exit(await run())
