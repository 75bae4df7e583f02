/** Whom a session belongs to. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { AuthInfo } from '../wire/sdk.js'

/** `subject@client`, or the client alone; undefined without verified auth. */
export function defaultPrincipal(authInfo: AuthInfo | undefined): string | undefined {
  if (authInfo === undefined) return undefined
  const client = encodeURIComponent(authInfo.clientId)
  const subject = authInfo.extra?.sub
  return subject === undefined ? client : `${encodeURIComponent(String(subject))}@${client}`
}

/** What the record keeps: salted with the session id, so that records do not tell which sessions are one person's. */
export function hashPrincipal(session: string, principal: string | undefined): string | null {
  if (principal === undefined) return null
  return createHash('sha256').update(`${session}\n${principal}`).digest('base64url')
}

export function samePrincipal(session: string, hash: string | null, principal: string | undefined): boolean {
  const given = hashPrincipal(session, principal)
  if (hash === null || given === null) return hash === given
  return hash.length === given.length && timingSafeEqual(Buffer.from(hash), Buffer.from(given))
}
