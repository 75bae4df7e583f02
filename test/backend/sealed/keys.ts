/** What the tests of encryption share. */
import { randomBytes } from 'node:crypto'
import type { Backend } from '../../../src/backend/backend.js'
import { Keyring } from '../../../src/backend/sealed/keyring.js'
import { sealed } from '../../../src/backend/sealed.js'

export const newKey = () => randomBytes(32).toString('base64')
export const [K1, K2] = [newKey(), newKey()]

export const ringOf = (...keys: (string | Uint8Array)[]) => new Keyring({ keys })

/** A backend with its contents sealed; nothing is to be dropped on its bus. */
export function sealedWith<B extends Backend>(keyring: Keyring, backend: B): B {
  const unexpected = (error: Error) => {
    throw error
  }
  return sealed(backend, keyring, unexpected) as unknown as B
}

/** The id of the key that a text is sealed with. */
export const keyIdIn = (envelope: string) => envelope.split(':')[2] ?? ''
