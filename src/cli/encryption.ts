/** The keys of `--encryption-keys-file`, or of the environment: never of the command line, which others can read. */
import { readFileSync } from 'node:fs'
import { Option } from 'commander'
import { type Encryption, Keyring } from '../backend/sealed/keyring.js'
import { CommandError } from './command-error.js'

const VARIABLE = 'MCP_ROAM_ENCRYPTION_KEYS'

export function encryptionOption(): Option {
  const description = `keys that encrypt what is stored, one in a line; or ${VARIABLE}, with commas between them`
  return new Option('--encryption-keys-file <path>', description)
}

/**
 * Undefined: nothing is encrypted.
 *
 * @throws CommandError for keys that cannot be right. Its text holds nothing of them.
 */
export function encryptionOf(file: string | undefined): Encryption | undefined {
  // One that is empty is a secret that was not filled in, and must not have everything written in plain text.
  const inVariable = process.env[VARIABLE]
  if (file !== undefined && inVariable !== undefined) {
    throw new CommandError(`keys are in ${VARIABLE} and in --encryption-keys-file: give one of the two`, 2)
  }
  const text = file === undefined ? inVariable : read(file)
  if (text === undefined) return undefined
  const keys = text.split(/[,\n]/).map((key) => key.trim())
  const encryption = { keys: keys.filter((key) => key !== '') }
  try {
    new Keyring(encryption)
  } catch (error) {
    throw new CommandError(`${file === undefined ? VARIABLE : file}: ${(error as Error).message}`, 2)
  }
  return encryption
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new CommandError(`cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`, 2)
  }
}
