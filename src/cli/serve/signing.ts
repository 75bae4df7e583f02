/** The secrets that sign session ids. */
import { Option } from 'commander'
import { secretsOf } from '../../options.js'
import { CommandError } from '../command-error.js'
import { readSecrets } from '../secrets.js'

export const SECRET_VARIABLE = 'MCP_ROAM_SECRET'
const FLAG = '--secret-file'

export function secretOption(): Option {
  const description = `secrets that sign session ids, one in a line; or ${SECRET_VARIABLE}, with commas between them`
  return new Option(`${FLAG} <path>`, description)
}

/**
 * The first signs, any verifies. Undefined: ids are not signed.
 *
 * @throws CommandError for secrets that cannot be right. Its text holds nothing of them.
 */
export function secretOf(file: string | undefined): readonly string[] | undefined {
  const secrets = readSecrets({ variable: SECRET_VARIABLE, flag: FLAG }, file)
  try {
    return secrets && secretsOf({ secret: secrets.texts })
  } catch (error) {
    throw new CommandError(`${secrets?.where}: ${(error as Error).message}`, 2)
  }
}
