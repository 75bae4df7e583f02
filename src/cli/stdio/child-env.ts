/** What a child process sees of this process's environment: what the SDK's stdio client would show it, and no secrets. */

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
    // `()` begins an exported shell function, which a shell further down would run.
    if (value !== undefined && !value.startsWith('()')) env[name] = value
  }
  return env
}
