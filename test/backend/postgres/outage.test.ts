import pg from 'pg'
import postgresJs from 'postgres'
import { expect, test } from 'vitest'
import { type PostgresOptions, postgres } from '../../../src/backend/postgres.js'
import { describeWith, postgresProgram, startPostgres } from '../../services/use.js'
import { record } from '../record.js'
import { arrival, until } from './fixture.js'

describeWith('PostgreSQL', await postgresProgram(), () => {
  const clients: Record<string, (url: string) => { options: PostgresOptions; end: () => Promise<void> }> = {
    'a url': (url) => ({ options: { url }, end: async () => {} }),
    'a pool of pg that nobody watches for errors': (url) => {
      const pool = new pg.Pool({ connectionString: url, connectionTimeoutMillis: 2_000 })
      const end = () => {
        // Its connections may outlive it for a moment, and we listen no more.
        pool.on('error', () => {})
        return pool.end()
      }
      return { options: { pool }, end }
    },
    'the sql of postgres.js': (url) => {
      const sql = postgresJs(url, { connect_timeout: 2, backoff: () => 0.2, onnotice: () => {} })
      return { options: { pool: sql }, end: () => sql.end({ timeout: 1 }) }
    },
  }

  test.each(Object.keys(clients))(
    'while the server is killed, frozen or restarted calls reject; then everything goes on (%s)',
    { timeout: 60_000 },
    async (name) => {
      const server = await startPostgres()
      const { options, end } = clients[name]?.(server.url) ?? expect.unreachable()
      const backend = postgres(options)
      const received = new Set<string>()
      const heard = async (message: string) => {
        await until(async () => {
          await backend.bus.publish('t', message).catch(() => {})
          return received.has(message)
        })
      }
      const rejected = async () => {
        const started = performance.now()
        const calls = [
          backend.sessions.load('a'),
          backend.sessions.create(record('b'), 60_000),
          backend.events.read('a', 's', 0, 1),
          backend.bus.publish('t', 'x'),
          backend.bus.subscribe('late', () => {}),
          backend.ping(),
        ]
        const outcomes = await Promise.allSettled(calls)
        expect(outcomes.map(({ status }) => status)).toEqual(calls.map(() => 'rejected'))
        return performance.now() - started
      }
      const works = async () => {
        await until(() => succeeds(backend.ping()))
        await until(() => succeeds(backend.sessions.load('a')))
        expect((await backend.sessions.load('a'))?.record).toEqual(record('a'))
      }
      try {
        await backend.sessions.create(record('a'), 600_000)
        await backend.events.open('a', 's', { head: '0' })
        await backend.bus.subscribe('t', (message) => received.add(message))
        await heard('before')
        // After a crash ids begin again, and are lower than what this subscription began after.
        for (let i = 0; i < 20; i++) await backend.bus.publish('t', `earlier ${i}`)
        await until(() => received.has('earlier 19'))
        const later: string[] = []
        await backend.bus.subscribe('v', (message) => later.push(message))

        await server.kill()
        expect(await rejected()).toBeLessThan(6_000)
        // A process of the old server may still be dying, and then the new one refuses to start.
        await until(() => succeeds(server.restart()))
        await works()
        await backend.bus.publish('v', 'after a crash')
        await until(() => later.includes('after a crash'))
        const started = performance.now()
        await heard('after a crash')
        await heard('soon')
        // It takes less than 2 seconds on a machine that has nothing else to do.
        expect(performance.now() - started).toBeLessThan(6_000)
        expect(await backend.events.append('a', 's', { id: '1', events: ['1'] })).toBe(1)

        server.pause()
        expect(await rejected()).toBeLessThan(12_000)
        server.resume()
        await works()
        await heard('after a pause')

        await server.restart()
        await works()
        await heard('after a restart')
        const again = arrival()
        await backend.bus.subscribe('u', again.resolve)
        await backend.bus.publish('u', 'new')
        expect(await again.promise).toBe('new')
      } finally {
        await backend.close()
        await end()
      }
    },
  )
})

function succeeds(attempt: Promise<unknown>): Promise<boolean> {
  return attempt.then(
    () => true,
    () => false,
  )
}
