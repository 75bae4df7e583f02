/** Secrets from a file, or from the environment: never from the command line, which others can read. */
import { readFileSync, statSync } from 'node:fs'
import { CommandError } from './command-error.js'

export interface SecretSource {
  /** The variable that may hold them, with commas between them. */
  readonly variable: string
  /** The flag that may name a file with them, one a line. */
  readonly flag: string
}

/** What came from a source, and how to name the place without showing what is in it. */
export interface Secrets {
  readonly texts: readonly string[]
  readonly where: string
}

/**
 * Undefined: there are none.
 *
 * @throws CommandError for a file that cannot be read, and where both variable and file are given.
 */
export function readSecrets({ variable, flag }: SecretSource, file: string | undefined): Secrets | undefined {
  // One that is empty is a secret that was not filled in: it must not pass for none.
  const inVariable = process.env[variable]
  if (file === undefined) return inVariable === undefined ? undefined : secretsIn(inVariable, /[,\n]/, variable)
  if (inVariable !== undefined) {
    throw new CommandError(`both ${variable} and ${flag} are set: give one of the two`, 2)
  }
  return secretsIn(read(file), /\n/, file)
}

/** Whether other users of this machine may read or change a file. Windows has no such bits. */
export function isOpenToOthers(file: string): boolean {
  return process.platform !== 'win32' && (statSync(file).mode & 0o007) !== 0
}

function secretsIn(text: string, between: RegExp, where: string): Secrets {
  const texts = text.split(between).map((each) => each.trim())
  return { texts: texts.filter((each) => each !== ''), where }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/^\uFEFF/, '')
  } catch (error) {
    throw new CommandError(`cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`, 2)
  }
}
