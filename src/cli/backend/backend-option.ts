/** The option `--backend`, the same for every command that has one. */
import { Option } from 'commander'

/** Can be given as a variable, too: arguments, and a password among them, show up in the list of processes. */
export function backendOption(description: string): Option {
  return new Option('--backend <url>', description).env('MCP_ROAM_BACKEND')
}
