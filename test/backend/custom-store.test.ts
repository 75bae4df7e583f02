import Keyv from 'keyv'
import { expect, it } from 'vitest'
import { keyvStore } from '../../examples/custom-store/keyv-store.js'
import { mapStore } from '../../examples/custom-store/map-store.js'
import { sessionStoreContract } from '../../src/testing/index.js'
import { run } from './contract.js'

run(
  'a store over a Map',
  sessionStoreContract(async () => ({ backend: { sessions: mapStore() } })),
)

run(
  'a store over keyv, which cannot compare and set',
  sessionStoreContract(
    async () => {
      const store = new Map()
      const node = () => ({ sessions: keyvStore(new Keyv({ store, throwOnErrors: true })) })
      return { backend: node(), peer: node() }
    },
    { compareAndSet: false },
  ),
)

it('a store over keyv refuses to hide that its database fails', () => {
  expect(() => keyvStore(new Keyv())).toThrow(TypeError)
})
