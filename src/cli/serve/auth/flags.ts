/** The flags of `serve` that say who may call it. */
import { type Command, InvalidArgumentError } from 'commander'
import { isLocal } from './options.js'

export function addAuthFlags(command: Command): void {
  command
    .option('--api-key-file <file>', 'let in who has a key of this file: a key, or name:key, a line', once)
    .option('--issuer <url>', 'let in who has an access token (JWT) of this OAuth issuer', parseIssuer)
    .option('--resource <url>', 'URL under which clients reach the endpoint (default: where it listens)', parseResource)
    .option('--audience <value>', 'what tokens must name as their audience (default: the resource)', once)
    .option('--scope <name>', 'let in only tokens with this scope', addScope)
}

function once(text: string, before?: string): string {
  if (before !== undefined) throw new InvalidArgumentError('It can be given once.')
  if (text === '') throw new InvalidArgumentError('It must not be empty.')
  return text
}

/** One only: the principal of a session does not say which issuer its subject is of. */
function parseIssuer(text: string, before?: string): string {
  const url = parseUrl(once(text, before))
  if (url.protocol !== 'https:' && !isLocal(url)) {
    throw new InvalidArgumentError('It must be an https: URL: who can change its answers can make tokens.')
  }
  return text
}

function parseResource(text: string, before?: string): string {
  parseUrl(once(text, before))
  return text
}

/** RFC 8414, section 2; RFC 8707, section 2. */
function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || /[?#]/.test(text) || url.username !== '' || url.password !== '') {
    throw new InvalidArgumentError(
      'It must be a URL such as https://auth.example.com, without user, query and fragment.',
    )
  }
  return url
}

/** RFC 6749, section 3.3. */
function addScope(text: string, all: string[] = []): string[] {
  if (!/^[\x21\x23-\x5b\x5d-\x7e]+$/.test(text))
    throw new InvalidArgumentError('It must be one scope; give the flag again for another one.')
  return [...all, text]
}
