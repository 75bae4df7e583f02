/** From the flags and the environment of `serve` to who may call it. */
import { isLoopback } from '../../../http/loopback.js'
import { CommandError } from '../../command-error.js'
import { API_KEY_VARIABLE, type ApiKey, checkNames, keysInVariable, readKeyFile } from './api-keys.js'

export interface AuthOptions {
  keys: readonly ApiKey[]
  /** Where the keys were read, if it was a file. */
  keyFile: string | undefined
  oauth: OAuthOptions | undefined
}

export interface OAuthOptions {
  /** As tokens name it in `iss`: a slash at the end counts. */
  issuer: string
  /** What tokens name in `aud`. Default: the URL of the resource. */
  audience: string | undefined
  /** URL under which clients reach the endpoint. Default: the one that it listens on. */
  resource: string | undefined
  /** A token must have all of them. */
  scopes: readonly string[]
}

export interface AuthFlags {
  apiKeyFile?: string
  issuer?: string
  audience?: string
  resource?: string
  scope?: string[]
}

/** @throws CommandError for what cannot be meant. */
export function authOptions(flags: AuthFlags, host: string, variable = process.env[API_KEY_VARIABLE]): AuthOptions {
  const { apiKeyFile: keyFile, issuer, audience, resource, scope: scopes = [] } = flags
  const keys = [
    ...(keyFile === undefined ? [] : readKeyFile(keyFile)),
    ...(variable === undefined ? [] : keysInVariable(variable)),
  ]
  checkNames(keys)
  if (issuer === undefined) {
    const lonely = Object.entries({ audience, resource, scope: flags.scope }).find(([, value]) => value !== undefined)
    if (lonely) throw new CommandError(`--${lonely[0]} is about tokens: give --issuer, too`, 2)
    return { keys, keyFile, oauth: undefined }
  }
  if (resource === undefined && !isLoopback(host)) {
    // Not from the Host header, which whoever asks may choose: clients are told by it where to send their tokens.
    throw new CommandError('with --issuer, say with --resource under which URL clients reach the endpoint', 2)
  }
  return { keys, keyFile, oauth: { issuer, audience, resource, scopes } }
}

/** Whether a URL leads to this machine, where there is nobody to listen on the way. */
export function isLocal({ hostname }: URL): boolean {
  return isLoopback(hostname.replace(/^\[|\]$/g, ''))
}
