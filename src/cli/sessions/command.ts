/** `mcp-roam sessions` on the command line. */
import type { Command } from 'commander'
import { backendOption } from '../backend/backend-option.js'
import { SHARED_BACKENDS } from '../backend/backend-url.js'
import { encryptionOption } from '../encryption.js'
import { deleteSession, listSessions, type SessionsOptions, showSession } from './sessions.js'

export function addSessions(program: Command): void {
  const sessions = program
    .command('sessions')
    .description('Looks at the sessions of a backend, and ends them; while nodes use it, too.')
  const add = (usage: string, description: string) =>
    sessions
      .command(usage)
      .description(description)
      .addOption(backendOption(`where sessions live: ${SHARED_BACKENDS}`).makeOptionMandatory())
      .addOption(encryptionOption())
      .option('--json', 'as JSON, one object in a line', false)
  add('list', 'Lists all sessions.').action((options: SessionsOptions) => listSessions(options, process.stdout))
  add('show', 'Shows what is known of one session.')
    .argument('<id>')
    .action((id: string, options: SessionsOptions) => showSession(id, options, process.stdout))
  add('delete', "Ends a session for good, as its client's DELETE would, on all nodes.")
    .argument('<id>')
    .action((id: string, options: SessionsOptions) => deleteSession(id, options, process.stdout))
}
