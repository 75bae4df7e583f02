/** Whom a session belongs to. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { AuthInfo } from '../wire/sdk.js'

/** Whom a request comes from; undefined: anonymous. */
export type Principal = string | undefined

/** Stands for the principal where no request has yet proved whom the session belongs to. */
export const UNPROVEN = Symbol('unproven')

/** Whom a session was found to belong to by the request that last used it. */
export type ProvenPrincipal = Principal | typeof UNPROVEN

/** `subject@client`, or the client alone; undefined without verified auth. */
export function defaultPrincipal(authInfo: AuthInfo | undefined): Principal {
  if (authInfo === undefined) return undefined
  const client = encodeURIComponent(authInfo.clientId)
  const subject = authInfo.extra?.sub
  return subject === undefined ? client : `${encodeURIComponent(String(subject))}@${client}`
}

/** Whether verified auth says who of a client's users it is. */
export function hasSubject({ extra }: AuthInfo): boolean {
  const subject = extra?.sub
  return subject !== undefined && subject !== null && subject !== ''
}

/** What the operator is told if verified auth has no subject, and no option `principal` says whom a request comes from. */
export const NO_SUBJECT =
  'the verified auth of a request has no subject, so all users of its OAuth client count as one, and may use each ' +
  "other's sessions if they know the ids: have the token verifier set extra.sub, or set the option `principal`. This is " +
  'told once.'

/** What the record keeps: salted with the session id, so that records do not tell which sessions are one person's. */
export function hashPrincipal(session: string, principal: Principal): string | null {
  if (principal === undefined) return null
  return createHash('sha256').update(`${session}\n${principal}`).digest('base64url')
}

/** Whether a record's hash is the principal's. */
export function samePrincipal(session: string, hash: string | null, principal: Principal): boolean {
  const given = hashPrincipal(session, principal)
  if (hash === null || given === null) return hash === given
  return hash.length === given.length && timingSafeEqual(Buffer.from(hash), Buffer.from(given))
}
