/** The keys that seal what is stored, and the envelope that they make of it. */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import { checkNames } from '../options.js'
import { Unreadable } from '../unavailable.js'

/** How what is stored is encrypted. */
export interface Encryption {
  /**
   * Keys of 32 random bytes, as base64, base64url or bytes; `openssl rand -base64 32` makes one. The first encrypts, any of
   * them decrypts.
   *
   * In the place of a key, `'plain'` stands for no encryption: as the first what is written is plain text, in any place what
   * is plain text can be read. It is for the time in which encryption is being switched on or off. Without it, plain text in
   * the backend is refused.
   *
   * @example
   * keys: (process.env.SESSION_KEYS ?? '').split(',')
   */
  keys: readonly (string | Uint8Array)[]
}

interface Key {
  /** Says which key it is, and nothing else of it. */
  readonly id: string
  readonly secret: KeyObject
}

/** What stands in the place of a key where there is no encryption. */
const PLAIN = 'plain'

const KEY_BYTES = 32
const KEY_TEXT = /^[A-Za-z0-9+/_-]{43}=?$/
const HOW_TO = '32 random bytes as base64, such as `openssl rand -base64 32` prints'

/** So that a key id, and a key that is derived, can never be one of another program that has the same key. */
const DOMAIN = 'mcp-roam'
const KEY_ID_BYTES = 6

/**
 * An envelope is `"mcp-roam:1:<key id>:<nonce, ciphertext and tag in base64url>"`, quotes included: what has to be JSON text
 * still is. The number is that of the format.
 */
const PREFIX = `"${DOMAIN}:`
const FORMAT = '1'

const CIPHER = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** Text whose halves of surrogate pairs stand alone is no UTF-8. */
const NO_UTF8 = /\p{Surrogate}/u

export class Keyring {
  /** Whether what is written stays plain text. */
  readonly writesPlain: boolean
  /** Whether what is plain text can be read. */
  readonly readsPlain: boolean
  readonly #keys: readonly Key[]

  /**
   * @param encryption Undefined: all is plain text, and what is encrypted cannot be read.
   * @throws TypeError if the option cannot be right; the message says what to write, and repeats nothing of a key.
   */
  constructor(encryption?: Encryption) {
    if (encryption === undefined) {
      this.writesPlain = true
      this.readsPlain = true
      this.#keys = []
      return
    }
    checkNames('encryption', encryption, ['keys'])
    const keys: unknown = encryption.keys
    if (!Array.isArray(keys)) throw new TypeError(`encryption: \`keys\` must be an array; each is ${HOW_TO}`)
    this.writesPlain = keys[0] === PLAIN
    this.readsPlain = keys.includes(PLAIN)
    this.#keys = keys.flatMap((key, index) => (key === PLAIN ? [] : [keyOf(key, index)]))
    if (this.#keys.length === 0) {
      throw new TypeError(`encryption: \`keys\` has no key; the first must be ${HOW_TO}`)
    }
  }

  /** Whether anything is, or was, encrypted. */
  get hasKeys(): boolean {
    return this.#keys.length > 0
  }

  /** @throws Unreadable where plain text is refused. */
  checkPlain(what: string): void {
    if (this.readsPlain) return
    throw new Unreadable(
      `${what} is not encrypted, and may be forged. If it is from before encryption was switched on: add 'plain' to the end of encryption.keys until no such data is left`,
    )
  }

  /**
   * For what belongs to a scope, such as a session. It has keys of its own, derived by HKDF: nonces are random, and one key
   * may have some four billion of them; that is far away for a session, and would not be for all of them.
   */
  box(...scope: readonly string[]): Box {
    return new Box(this.#keys, this, scope)
  }
}

/** Seals and opens what belongs to one scope. */
export class Box {
  readonly #derived = new Map<string, KeyObject>()

  constructor(
    private readonly keys: readonly Key[],
    private readonly plain: Pick<Keyring, 'writesPlain' | 'checkPlain'>,
    private readonly scope: readonly string[],
  ) {}

  /**
   * @param about What the text is: its kind, and all names that it is stored under. It opens as nothing else.
   */
  seal(about: readonly unknown[], text: string): string {
    const [key] = this.keys
    if (this.plain.writesPlain || !key) return text
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(CIPHER, this.#derive(key), nonce, { authTagLength: TAG_BYTES })
    cipher.setAAD(this.#context(about))
    const sealed = [nonce, cipher.update(toBytes(text)), cipher.final(), cipher.getAuthTag()]
    return `${PREFIX}${FORMAT}:${key.id}:${Buffer.concat(sealed).toString('base64url')}"`
  }

  /**
   * @param what For the error, e.g. `an event`.
   * @throws Unreadable if it is not what was sealed as the same, with one of the keys.
   */
  open(about: readonly unknown[], text: string, what: string): string {
    if (!isSealed(text)) {
      this.plain.checkPlain(what)
      return text
    }
    const { format, id, bytes } = parse(text)
    if (format !== FORMAT) throw new Unreadable(`${what} is encrypted in a format that is not known here`)
    const key = this.keys.find((key) => key.id === id)
    if (!key) throw new Unreadable(`${what} is encrypted with key ${id}, which is not among encryption.keys`)
    try {
      const decipher = createDecipheriv(CIPHER, this.#derive(key), bytes.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      })
      decipher.setAAD(this.#context(about))
      decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
      const opened = [decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]
      return toText(Buffer.concat(opened))
    } catch {
      throw new Unreadable(
        `${what} does not open with key ${id}, which it names: it was changed in the backend, or put in the place of another`,
      )
    }
  }

  #derive(key: Key): KeyObject {
    let derived = this.#derived.get(key.id)
    if (!derived) {
      // A hash, because a scope may be longer than what HKDF takes.
      const info = createHash('sha256')
        .update(JSON.stringify([DOMAIN, FORMAT, ...this.scope]))
        .digest()
      derived = createSecretKey(new Uint8Array(hkdfSync('sha256', key.secret, '', info, KEY_BYTES)))
      this.#derived.set(key.id, derived)
    }
    return derived
  }

  /** JSON keeps names apart, whatever characters they have. */
  #context(about: readonly unknown[]): Buffer {
    return Buffer.from(JSON.stringify([...this.scope, ...about]))
  }
}

/** Whether a text is an envelope, whatever is in it. */
export function isSealed(text: string): boolean {
  return text.startsWith(PREFIX)
}

function parse(text: string): { format: string; id: string; bytes: Buffer } {
  const [format = '', id = '', body = ''] = text.slice(PREFIX.length, -1).split(':', 3)
  return { format, id: id.replace(/[^\w-]/g, '?').slice(0, 16), bytes: Buffer.from(body, 'base64url') }
}

function keyOf(given: unknown, index: number): Key {
  const bytes = bytesOf(given)
  if (bytes?.length !== KEY_BYTES) throw new TypeError(`encryption: \`keys[${index}]\` must be ${HOW_TO}`)
  const hash = createHash('sha256').update(`${DOMAIN} key id\0`).update(bytes).digest()
  return { id: hash.subarray(0, KEY_ID_BYTES).toString('base64url'), secret: createSecretKey(bytes) }
}

function bytesOf(given: unknown): Uint8Array | undefined {
  if (given instanceof Uint8Array) return given
  // A file ends with a line break.
  const text = typeof given === 'string' ? given.trim() : ''
  return KEY_TEXT.test(text) ? Buffer.from(text, 'base64') : undefined
}

/** The first byte says which encoding follows. */
function toBytes(text: string): Buffer {
  return NO_UTF8.test(text) ? Buffer.from(`\u0001${text}`, 'utf16le') : Buffer.from(`\0${text}`)
}

function toText(bytes: Buffer): string {
  return bytes[0] === 0 ? bytes.toString('utf8', 1) : bytes.toString('utf16le', 2)
}
