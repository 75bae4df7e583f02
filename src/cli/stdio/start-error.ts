/** Whether a command can be started, asked before anything depends on it. */
import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { delimiter, resolve } from 'node:path'

/** Undefined if the command can be started from `cwd` with this `PATH`, else why it cannot, in words for the user. */
export function startProblem(command: string, path: string | undefined, cwd = process.cwd()): string | undefined {
  // A shim such as npx.cmd is a batch file: it would take a shell, and a shell would read the arguments again.
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

/** What a failed `spawn` says to the user. */
export function startError(command: string, cwd: string | undefined, error: NodeJS.ErrnoException): Error {
  // The system reports a missing working directory as if it were the program.
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
