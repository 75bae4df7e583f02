import { expect, onTestFinished, test } from 'vitest'
import { MIGRATIONS } from '../../../src/backend/postgres/migrations.js'
import { postgres } from '../../../src/backend/postgres.js'
import { describeWith, postgresUrl, unique } from '../../services/use.js'
import { record } from '../record.js'
import { useDatabase } from './fixture.js'

describeWith('PostgreSQL', await postgresUrl(), (url) => {
  const { admin, fresh, count } = useDatabase(url)

  test('twenty nodes that start at once in a fresh database make one schema', async () => {
    const schema = unique()
    const backends = Array.from({ length: 20 }, () => fresh({ schema }).backend)
    await Promise.all(
      backends.map(async ({ migrate, sessions }, index) => {
        if (index % 2) await migrate()
        expect(await sessions.create(record(`${index}`), 60_000)).toBe(true)
      }),
    )
    expect(await count(schema, 'migrations')).toBe(MIGRATIONS.length)
    expect(await count(schema, 'sessions')).toBe(20)
    await Promise.all(backends.map(({ migrate }) => migrate()))
  })

  test('a newer schema is left as it is', async () => {
    const { backend, schema } = fresh()
    await backend.migrate()
    await admin.query(`insert into ${schema}.migrations (version) values (99)`)
    const older = postgres({ url, schema })
    await older.migrate()
    expect(await older.sessions.load('x')).toBeUndefined()
    await older.close()
    expect(await count(schema, 'migrations')).toBe(MIGRATIONS.length + 1)
  })

  test('a schema that somebody dropped is made again', async () => {
    const { backend, schema } = fresh()
    await backend.sessions.create(record('a'), 60_000)
    await admin.query(`drop schema ${schema} cascade`)
    await expect(backend.sessions.load('a')).rejects.toThrow()
    expect(await backend.sessions.load('a')).toBeUndefined()
    expect(await backend.sessions.create(record('a'), 60_000)).toBe(true)
  })

  test('a user who may not create the schema is told so, and goes on once it is there', async () => {
    const schema = unique()
    const role = unique()
    await admin.query(`create role ${role} login`)
    const address = new URL(url)
    address.username = role
    const poor = postgres({ url: address.href, schema })
    onTestFinished(async () => {
      await poor.close()
      await admin.query(`drop owned by ${role}; drop role ${role}`)
    })
    await expect(poor.sessions.load('a')).rejects.toThrow('permission denied')
    await fresh({ schema }).backend.migrate()
    await admin.query(`
      grant usage on schema ${schema} to ${role};
      grant all on all tables in schema ${schema} to ${role};
      grant all on all sequences in schema ${schema} to ${role}`)
    expect(await poor.sessions.create(record('a'), 60_000)).toBe(true)
    expect(await poor.sessions.delete('a')).toBe(true)
  })
})
