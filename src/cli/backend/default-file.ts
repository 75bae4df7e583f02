/** The SQLite file of a `serve` that was given no `--backend`. */
import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'

/**
 * A file for each command line and working directory: the same command finds its sessions again, and no other server
 * gets them, which could make nothing of them.
 */
export function defaultFile(command: readonly string[], cwd = process.cwd()): string {
  const name = basename(command[0] ?? '').replace(/[^\w.-]/g, '_')
  const hash = createHash('sha256')
    .update(JSON.stringify([cwd, ...command]))
    .digest('hex')
    .slice(0, 12)
  return join(stateFolder(), `${name}-${hash}.db`)
}

type Environment = Readonly<Record<string, string | undefined>>

/** Where each system has programs keep what belongs to their user and outlives them. */
export function stateFolder(platform = process.platform, env: Environment = process.env, home = homedir()): string {
  if (platform === 'win32') return join(env.LOCALAPPDATA || join(home, 'AppData', 'Local'), 'mcp-roam')
  if (platform === 'darwin') return join(home, 'Library', 'Application Support', 'mcp-roam')
  // XDG Base Directory Specification, "Basics": a relative path in this variable is to be ignored.
  const state = env.XDG_STATE_HOME?.startsWith('/') ? env.XDG_STATE_HOME : join(home, '.local', 'state')
  return join(state, 'mcp-roam')
}
