/** Why a command cannot be started, in words for the user: found out before, or told by a failed start. */
import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { delimiter, resolve } from 'node:path'

/** Why the command cannot be started from `cwd` with this `PATH`; undefined: it can. */
export function startProblem(command: string, path: string | undefined, cwd = process.cwd()): string | undefined {
  // Only a shell can start a batch file, such as npx.cmd; and a shell would interpret the arguments.
  if (process.platform === 'win32') return isBatchFile(command, path, cwd) ? needsCmd(command) : undefined
  if (command.includes('/')) {
    const file = resolve(cwd, command)
    if (!isFile(file)) return `command not found: ${command}`
    return isExecutable(file) ? undefined : `not executable: ${command}`
  }
  const folders = (path ?? '').split(delimiter)
  return folders.some((folder) => isExecutable(resolve(cwd, folder, command)))
    ? undefined
    : `command not found: ${command}`
}

/** The error of a failed `spawn`, in words for the user. */
export function startError(command: string, cwd: string | undefined, error: NodeJS.ErrnoException): Error {
  // For a missing working directory the system reports the same error as for a missing program.
  const text =
    cwd !== undefined && !existsSync(cwd)
      ? `no such folder: ${cwd}`
      : error.code === 'ENOENT'
        ? `command not found: ${command}`
        : error.code === 'EACCES'
          ? `not executable: ${command}`
          : `cannot start ${command}: ${error.message}`
  return new Error(text, { cause: error })
}

function isBatchFile(command: string, path: string | undefined, cwd: string): boolean {
  if (/\.(cmd|bat)$/i.test(command)) return true
  if (/\.[a-z0-9]+$/i.test(command)) return false
  const folders = /[\\/]/.test(command) ? [''] : (path ?? '').split(delimiter)
  const has = (extension: string) => folders.some((folder) => isFile(resolve(cwd, folder, command + extension)))
  return !has('.exe') && (has('.cmd') || has('.bat'))
}

function needsCmd(command: string): string {
  return `${command} is a batch file: start it with "cmd /c ${command}"`
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return isFile(path)
  } catch {
    return false
  }
}
