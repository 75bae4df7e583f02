/** The contract of a backend holds for every backend with its contents sealed. */
import { afterAll } from 'vitest'
import { memory } from '../../../src/backend/memory.js'
import { postgres } from '../../../src/backend/postgres.js'
import { redis } from '../../../src/backend/redis.js'
import { sqlite } from '../../../src/backend/sqlite.js'
import { budgetCases } from '../../../src/testing/events-budget.js'
import {
  eventLogContract,
  holdersContract,
  type Make,
  messageBusContract,
  sessionStoreContract,
  stateContract,
} from '../../../src/testing/index.js'
import { describeWith, postgresUrl, redisUrl, unique } from '../../services/use.js'
import { certifyTimes, pairs, run } from '../contract.js'
import { useDatabase } from '../postgres/fixture.js'
import { newFile } from '../sqlite/files.js'
import { K1, ringOf, sealedWith } from './keys.js'

const keyring = ringOf(K1)

/** They count what the test wrote; the backend counts what it is given, which is longer. */
const COUNTS_CHARACTERS = /beyond maxBytes/

function certify(backend: string, make: Make): void {
  const budget = new Set(budgetCases(make).map(({ name }) => name))
  const suites = {
    sessionStoreContract: sessionStoreContract(make),
    holdersContract: holdersContract(make),
    stateContract: stateContract(make, { limit: false }),
    eventLogContract: eventLogContract(make).filter(({ name }) => !budget.has(name) && !COUNTS_CHARACTERS.test(name)),
    messageBusContract: messageBusContract(make),
  }
  for (const [suite, cases] of Object.entries(suites)) run(`${backend}, sealed: ${suite}`, cases)
}

certify('memory', async (needs) => ({ backend: sealedWith(keyring, memory(needs)) }))
certifyTimes((now) => sealedWith(keyring, memory({ now })))

const file = newFile()
certify(
  'SQLite',
  pairs((needs) => sealedWith(keyring, sqlite({ file, ...needs }))),
)

describeWith('Redis', await redisUrl(), (url) => {
  const prefix = unique()
  certify(
    'Redis',
    pairs((needs) => sealedWith(keyring, redis({ url, prefix, ...needs }))),
  )
})

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin } = useDatabase(url)
  const schema = unique()
  afterAll(async () => void (await admin.query(`drop schema if exists ${schema} cascade`)))
  certify(
    'PostgreSQL',
    pairs((needs) => sealedWith(keyring, postgres({ url, schema, ...needs }))),
  )
})
