/** The keys that encrypt what is stored. */
import { Option } from 'commander'
import { type Encryption, Keyring } from '../backend/sealed/keyring.js'
import { CommandError } from './command-error.js'
import { readSecrets } from './secrets.js'

export const ENCRYPTION_VARIABLE = 'MCP_ROAM_ENCRYPTION_KEYS'
const FLAG = '--encryption-keys-file'

export function encryptionOption(): Option {
  const description = `keys that encrypt what is stored, one in a line; or ${ENCRYPTION_VARIABLE}, with commas between them`
  return new Option(`${FLAG} <path>`, description)
}

/**
 * Undefined: nothing is encrypted.
 *
 * @throws CommandError for keys that cannot be right. Its text holds nothing of them.
 */
export function encryptionOf(file: string | undefined): Encryption | undefined {
  const secrets = readSecrets({ variable: ENCRYPTION_VARIABLE, flag: FLAG }, file)
  if (!secrets) return undefined
  const encryption = { keys: secrets.texts }
  try {
    new Keyring(encryption)
  } catch (error) {
    throw new CommandError(`${secrets.where}: ${(error as Error).message}`, 2)
  }
  return encryption
}
