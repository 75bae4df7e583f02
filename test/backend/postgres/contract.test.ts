import pg from 'pg'
import postgresJs from 'postgres'
import { afterAll } from 'vitest'
import { postgres } from '../../../src/backend/postgres.js'
import { describeWith, postgresUrl, unique } from '../../services/use.js'
import { certify, pairs } from '../contract.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const pool = new pg.Pool({ connectionString: url, max: 12 })
  const sql = postgresJs(url, { max: 6, onnotice: () => {} })
  const schema = unique()
  afterAll(async () => {
    await pool.query(`drop schema if exists ${schema} cascade`)
    await Promise.all([pool.end(), sql.end()])
  })

  certify(
    'by address',
    pairs((needs) => postgres({ url, schema, ...needs })),
  )
  certify(
    'pg',
    pairs((needs) => postgres({ pool, schema, ...needs })),
  )
  certify(
    'postgres.js',
    pairs((needs) => postgres({ pool: sql, schema, ...needs })),
  )
})
