import { createHash, randomBytes } from 'node:crypto'
import { describe, expect, it, test } from 'vitest'
import { memory } from '../../../src/backend/memory.js'
import { isSealed, Keyring } from '../../../src/backend/sealed/keyring.js'
import { Unreadable } from '../../../src/backend/unavailable.js'
import { createSessionHandler, SessionTransport, toEventStore } from '../../../src/index.js'
import { K1, K2, keyIdIn, newKey, ringOf } from './keys.js'

const TEXT = JSON.stringify({ secret: 'é🙂', n: 1 })
const box = (ring = ringOf(K1), scope = ['session', 's']) => ring.box(...scope)
const open = (text: string, ring = ringOf(K1), about: unknown[] = ['event', 'stream']) =>
  box(ring).open(about, text, 'an event')
const seal = (text = TEXT, ring = ringOf(K1)) => box(ring).seal(['event', 'stream'], text)

describe('keys', () => {
  const bytes = randomBytes(32)

  test.each([
    ['base64', bytes.toString('base64')],
    ['base64url', bytes.toString('base64url')],
    ['base64 with the line break of its file', `${bytes.toString('base64')}\n`],
    ['bytes', new Uint8Array(bytes)],
  ])('as %s are the same key', (_, key) => {
    expect(open(seal(TEXT, ringOf(key)), ringOf(bytes))).toBe(TEXT)
  })

  test.each<[string, unknown, RegExp]>([
    ['no object', 'key', /write an object; the options are `keys`/],
    ['an option that there is none of', { keys: [K1], acceptPlain: true }, /no option `acceptPlain`/],
    ['a key by itself', { keys: K1 }, /`keys` must be an array/],
    ['no key', { keys: [] }, /has no key/],
    ['nothing but plain', { keys: ['plain'] }, /has no key/],
    ['31 bytes', { keys: [K1, new Uint8Array(31)] }, /`keys\[1\]` must be 32 random bytes/],
    ['33 bytes as text', { keys: [Buffer.alloc(33, 7).toString('base64')] }, /`keys\[0\]` must be/],
    ['hex', { keys: [Buffer.alloc(32, 7).toString('hex')] }, /openssl rand -base64 32/],
    ['an environment that lacks it', { keys: [undefined] }, /`keys\[0\]` must be/],
  ])('%s is a TypeError at once, that says what to write and repeats no key', (_, encryption, message) => {
    const given = encryption as { keys: string[] }
    for (const make of [
      () => new Keyring(given),
      () => createSessionHandler(() => Promise.reject(new Error()), { encryption: given }),
      () => new SessionTransport({ encryption: given }),
      () => toEventStore(memory(), 's', { encryption: given }),
    ]) {
      expect(make).toThrow(TypeError)
      expect(make).toThrow(message)
      expect(make).not.toThrow(K1)
    }
  })

  it('are named by an id that is not part of them, nor a plain hash', () => {
    const id = keyIdIn(seal())
    const key = Buffer.from(K1, 'base64')
    expect(id).toMatch(/^[\w-]{8}$/)
    expect(key.toString('base64url')).not.toContain(id)
    expect(createHash('sha256').update(key).digest('base64url')).not.toContain(id)
  })
})

describe('an envelope', () => {
  it('is JSON text, gives back what was sealed, and never says the same twice', () => {
    for (const text of [TEXT, '', '"', '\ud83d', 'a\udc00b\0', 'x'.repeat(100_000)]) {
      const sealed = seal(text)
      expect(typeof JSON.parse(sealed)).toBe('string')
      expect(isSealed(sealed)).toBe(true)
      expect(open(sealed)).toBe(text)
    }
    expect(seal()).not.toBe(seal())
  })

  it('grows a text by a third and some 70 characters', () => {
    expect(seal('x'.repeat(3000)).length).toBeLessThan(4000 + 70)
  })

  test.each([
    ['another kind', ['head', 'stream']],
    ['another name', ['event', 'stream2']],
    ['names cut elsewhere', ['event', 'str', 'eam']],
    ['one name more', ['event', 'stream', '']],
  ])('does not open as what is %s', (_, about) => {
    expect(() => open(seal(), ringOf(K1), about)).toThrow(Unreadable)
  })

  it('does not open in another scope', () => {
    for (const scope of [['session', 't'], ['bus', 's'], ['session'], ['session', 's', '']]) {
      expect(() => box(ringOf(K1), scope).open(['event', 'stream'], seal(), 'an event')).toThrow(Unreadable)
    }
  })

  it('keeps names apart that differ in halves of surrogate pairs, or are very long', () => {
    const ring = ringOf(K1)
    const names = ['\ud83d', '\ud83e', '\ufffd', 'x'.repeat(5000), 'x'.repeat(5001)]
    for (const name of names) {
      const sealed = ring.box('session', name).seal([name], TEXT)
      for (const other of names.filter((other) => other !== name)) {
        expect(() => ring.box('session', name).open([other], sealed, 'it')).toThrow(Unreadable)
        expect(() => ring.box('session', other).open([name], sealed, 'it')).toThrow(Unreadable)
      }
    }
  })

  describe('that was changed does not open:', () => {
    const sealed = seal()
    const head = sealed.slice(0, sealed.lastIndexOf(':') + 1)
    const body = Buffer.from(sealed.slice(head.length, -1), 'base64url')
    const with_ = (bytes: Uint8Array) => `${head}${Buffer.from(bytes).toString('base64url')}"`
    const flipped = (at: number) => with_(body.map((byte, index) => (index === at ? byte ^ 1 : byte)))

    test.each([
      ['the nonce', 0],
      ['the end of the nonce', 11],
      ['the first byte of the text', 12],
      ['the middle', body.length >> 1],
      ['the last byte of the text', body.length - 17],
      ['the tag', body.length - 16],
      ['the end of the tag', body.length - 1],
    ])('%s', (_, at) => {
      expect(open(with_(body))).toBe(TEXT)
      expect(() => open(flipped(at))).toThrow(/was changed in the backend/)
    })

    test.each([0, 1, 11, 12, 27, 28, body.length - 16, body.length - 1])('%i bytes are left', (length) => {
      expect(() => open(with_(body.subarray(0, length)))).toThrow(Unreadable)
    })

    it('more follows', () => {
      expect(() => open(with_(Buffer.concat([body, Buffer.alloc(1)])))).toThrow(Unreadable)
    })

    it('its format or key', () => {
      expect(() => open(sealed.replace(':1:', ':2:'))).toThrow(/format that is not known/)
      const other = keyIdIn(seal(TEXT, ringOf(K2)))
      expect(() => open(sealed.replace(keyIdIn(sealed), other), ringOf(K1, K2))).toThrow(/does not open with key/)
      expect(() => open('"mcp-roam:"')).toThrow(Unreadable)
      expect(() => open('"mcp-roam:1:')).toThrow(Unreadable)
    })
  })
})

describe('rotation', () => {
  const old = seal(TEXT, ringOf(K1))

  it('the first key encrypts, any decrypts; without its key a text is unreadable, and the error names the key', () => {
    const rotated = ringOf(K2, K1)
    expect(open(old, rotated)).toBe(TEXT)
    expect(open(seal(TEXT, rotated), ringOf(K2))).toBe(TEXT)
    expect(() => open(old, ringOf(K2))).toThrow(`is encrypted with key ${keyIdIn(old)}, which is not among`)
    expect(open(old, ringOf(newKey(), newKey(), K1))).toBe(TEXT)
  })

  it('plain text is refused unless it is among the keys, and written only if it is the first', () => {
    expect(() => open(TEXT)).toThrow(/not encrypted.*add 'plain'/)
    expect(open(TEXT, ringOf(K1, 'plain'))).toBe(TEXT)
    expect(isSealed(seal(TEXT, ringOf(K1, 'plain')))).toBe(true)
    expect(seal(TEXT, ringOf('plain', K1))).toBe(TEXT)
    expect(open(old, ringOf('plain', K1))).toBe(TEXT)
  })
})
