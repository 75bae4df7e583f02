/** API keys: how they are written down, and whose a key is. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { AuthInfo } from '../../../wire/sdk.js'
import { CommandError } from '../../command-error.js'

/** The variable that may hold keys, with commas between them. */
export const API_KEY_VARIABLE = 'MCP_ROAM_API_KEY'

export interface ApiKey {
  /** Whose it is. Keys of one name are one person's, so that a key can be replaced by another one. */
  name: string
  key: string
}

/** Shorter ones could be guessed, from the hashes in session records if not by asking. */
const SHORTEST = 16
/** What a bearer token may consist of (RFC 6750, section 2.1): another key could not be sent. */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/
const NAME = /^[A-Za-z0-9._@-]{1,128}$/

/** @throws CommandError for a file that cannot be read, or holds no keys. */
export function readKeyFile(file: string): ApiKey[] {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new CommandError(`cannot read the API keys in ${file}: ${(error as NodeJS.ErrnoException).code}`, 2)
  }
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/)
  const keys = lines.flatMap((line, i) => {
    const entry = line.trim()
    return entry === '' || entry.startsWith('#') ? [] : parseKey(entry, `line ${i + 1} of ${file}`)
  })
  if (keys.length === 0) throw new CommandError(`there are no API keys in ${file}`, 2)
  return keys
}

/** @throws CommandError for a text without keys: a secret that was not filled in must not open the door. */
export function keysInVariable(text: string): ApiKey[] {
  return text.split(',').map((entry, i) => parseKey(entry.trim(), `key ${i + 1} of ${API_KEY_VARIABLE}`))
}

/** @throws CommandError if one key would be that of two people. */
export function checkNames(keys: readonly ApiKey[]): void {
  const names = new Map<string, string>()
  for (const { name, key } of keys) {
    const before = names.get(key)
    if (before !== undefined && before !== name) throw new CommandError('the same API key is given under two names', 2)
    names.set(key, name)
  }
}

/** `name:key`, or a key alone. A message never shows what was written. */
function parseKey(entry: string, where: string): ApiKey {
  const colon = entry.indexOf(':')
  const key = entry.slice(colon + 1)
  const name = colon < 0 ? `sha256-${digest(key).toString('base64url').slice(0, 22)}` : entry.slice(0, colon)
  if (!NAME.test(name)) throw new CommandError(`${where}: a name is made of letters, digits and . _ @ -`, 2)
  if (!TOKEN.test(key)) throw new CommandError(`${where}: a key is made of letters, digits and . _ ~ + / -`, 2)
  if (key.length < SHORTEST) throw new CommandError(`${where}: a key has at least ${SHORTEST} characters`, 2)
  return { name, key }
}

export class ApiKeys {
  readonly #keys: readonly { name: string; digest: Buffer }[]

  constructor(keys: readonly ApiKey[]) {
    this.#keys = keys.map(({ name, key }) => ({ name, digest: digest(key) }))
  }

  /**
   * Whose key it is; undefined: nobody's. Takes as long whichever key it is: digests are compared, of the same length
   * whatever was sent, and all of them.
   */
  find(key: string): AuthInfo | undefined {
    const given = digest(key)
    let found = -1
    for (const [i, { digest }] of this.#keys.entries()) found = timingSafeEqual(digest, given) ? i : found
    const owner = this.#keys[found]
    // No token has the same principal, whatever client it names: each token has a subject, too.
    return owner && { token: key, clientId: `key:${owner.name}`, scopes: [] }
  }
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
