/** The environment of a child process: harmless variables only, so that it sees no secrets of this process. */

/** The same variables that the SDK's stdio client passes on. */
export const INHERITED: readonly string[] =
  process.platform === 'win32'
    ? [
        'APPDATA',
        'HOMEDRIVE',
        'HOMEPATH',
        'LOCALAPPDATA',
        'PATH',
        'PROCESSOR_ARCHITECTURE',
        'SYSTEMDRIVE',
        'SYSTEMROOT',
        'TEMP',
        'USERNAME',
        'USERPROFILE',
        'PROGRAMFILES',
      ]
    : ['HOME', 'LOGNAME', 'PATH', 'SHELL', 'TERM', 'USER']

type Environment = Readonly<Record<string, string | undefined>>

export function inheritedEnv(from: Environment = process.env): Record<string, string> {
  const env: Record<string, string> = {}
  for (const name of INHERITED) {
    const value = from[name]
    // A value that begins with `()` is an exported shell function: a shell that the child starts would define it.
    if (value !== undefined && !value.startsWith('()')) env[name] = value
  }
  return env
}
