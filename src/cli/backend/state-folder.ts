/** Where a program keeps what should outlive it and belongs to its user. */
import { homedir } from 'node:os'
import { join } from 'node:path'

type Environment = Readonly<Record<string, string | undefined>>

export function stateFolder(platform = process.platform, env: Environment = process.env, home = homedir()): string {
  if (platform === 'win32') return join(env.LOCALAPPDATA || join(home, 'AppData', 'Local'), 'mcp-roam')
  if (platform === 'darwin') return join(home, 'Library', 'Application Support', 'mcp-roam')
  // A relative path there is to be ignored (XDG Base Directory Specification, "Basics").
  const state = env.XDG_STATE_HOME?.startsWith('/') ? env.XDG_STATE_HOME : join(home, '.local', 'state')
  return join(state, 'mcp-roam')
}
