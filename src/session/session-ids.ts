/** The ids of sessions: how a new one is made, and which can be one of ours. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { isSessionId } from '../wire/rules.js'

export interface SessionIdOptions {
  sessionIdGenerator(): string
  /** The first signs new ids, any verifies. None: ids are not signed. */
  readonly secrets: readonly string[]
  /** Whether an id without a good signature may be one of ours all the same. */
  readonly acceptUnsigned: boolean
}

/** Of the 256 bits of the signature so many bytes are kept: 144 bits are 24 characters, with no bits left over to be played with. */
const SIGNATURE_BYTES = 18

export class SessionIds {
  constructor(private readonly options: SessionIdOptions) {}

  /** @throws Error for what cannot be an id, which is the program's fault. */
  make(): string {
    const { sessionIdGenerator, secrets } = this.options
    const given = sessionIdGenerator()
    const [secret] = secrets
    const id = secret === undefined || typeof given !== 'string' ? given : `${given}.${signatureOf(given, secret)}`
    if (typeof id === 'string' && isSessionId(id)) return id
    const room = secret === undefined ? 256 : 256 - signatureOf('', secret).length - 1
    throw new Error(`sessionIdGenerator must return up to ${room} characters of visible ASCII`)
  }

  /** False: no session has, or ever had, this id. */
  isPossible(id: string): boolean {
    const { secrets, acceptUnsigned } = this.options
    if (!isSessionId(id)) return false
    return secrets.length === 0 || acceptUnsigned || isSigned(id, secrets)
  }
}

function isSigned(id: string, secrets: readonly string[]): boolean {
  const dot = id.lastIndexOf('.')
  if (dot < 0) return false
  const given = Buffer.from(id.slice(dot + 1))
  return secrets.some((secret) => {
    const signature = Buffer.from(signatureOf(id.slice(0, dot), secret))
    return given.length === signature.length && timingSafeEqual(given, signature)
  })
}

function signatureOf(given: string, secret: string): string {
  // What else the same secret may be used for begins with other words.
  const hmac = createHmac('sha256', secret).update(`mcp-roam session id\n${given}`)
  return hmac.digest().subarray(0, SIGNATURE_BYTES).toString('base64url')
}
