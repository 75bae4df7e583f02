/**
 * Vitest's global setup: real services for the tests that ask for one. Nothing starts before a test file asks (through
 * use.ts), so that a run without such files costs nothing; what was started is shared by all files and ends with the run.
 *
 * Taken in this order: a service that answers at `REDIS_URL`, `REDIS_CLUSTER_NODES` (`host:port,host:port`) or
 * `POSTGRES_URL`; one started from installed programs; one started from Debian packages that we install as root.
 * Where none can be had the suites are skipped with a notice, and fail if `CI` is set.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Redis } from 'ioredis'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { binary } from './binaries.js'
import { launchPostgres } from './postgres.js'
import { launchRedis, launchRedisCluster } from './redis.js'

declare module 'vitest' {
  export interface ProvidedContext {
    /** Address of the small server below. */
    services: string
  }
}

/** What a test file can ask for, and what it gets. */
export interface Services {
  redis: string
  'redis-cluster': { host: string; port: number }[]
  postgres: string
  /** Path of the program, for a server of the test's own. */
  'redis-binary': string
  /** Folder of the programs. */
  'postgres-binary': string
  /** Path of the browser. */
  chromium: string
}

export type Answer<T> = { value: T } | { missing: string } | { failed: string }

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const stops: (() => Promise<void>)[] = []
  const until = <T extends { stop(): Promise<void> }>(service: T): T => {
    stops.push(() => service.stop())
    return service
  }
  const providers: { [K in keyof Services]: () => Promise<Services[K]> } = {
    redis: async () => (await given('REDIS_URL', redisAnswers)) ?? until(await launchRedis(await binary('redis'))).url,
    'redis-cluster': async () => {
      const named = await given('REDIS_CLUSTER_NODES', (nodes) => redisAnswers(String(parseNodes(nodes)[0])))
      if (named) return parseNodes(named).map((node) => ({ host: node.hostname, port: Number(node.port || 6379) }))
      return until(await launchRedisCluster(await binary('redis'))).nodes
    },
    postgres: async () =>
      (await given('POSTGRES_URL', postgresAnswers)) ?? until(await launchPostgres(await binary('postgres'))).url,
    'redis-binary': () => binary('redis'),
    'postgres-binary': () => binary('postgres'),
    chromium: () => binary('chromium'),
  }

  const answers = new Map<string, Promise<Answer<unknown>>>()
  const answer = (name: keyof Services): Promise<Answer<unknown>> => {
    const known =
      answers.get(name) ??
      providers[name]().then(
        (value): Answer<unknown> => ({ value }),
        (error: unknown): Answer<unknown> => refuse(name, error),
      )
    answers.set(name, known)
    return known
  }

  const server = createServer((request, response) => {
    const name = request.url?.slice(1) ?? ''
    const reply = isService(providers, name) ? answer(name) : Promise.resolve({ failed: `no such service: ${name}` })
    reply.then((body) => response.end(JSON.stringify(body)))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not a TCP address')
  // An interrupted run does not come to the teardown, and must not be kept alive by this.
  server.unref()
  project.provide('services', `http://127.0.0.1:${address.port}`)

  return async () => {
    server.close()
    server.closeAllConnections()
    // A service still starting is in `stops` only once it is up.
    await Promise.all(answers.values())
    await Promise.all(stops.map((stop) => stop()))
  }
}

function isService(providers: object, name: string): name is keyof Services {
  return Object.hasOwn(providers, name)
}

function refuse(name: string, error: unknown): Answer<never> {
  const reason = `${name}: ${error instanceof Error ? error.message : String(error)}`
  if (process.env.CI && process.env.CI !== 'false') return { failed: reason }
  const line = '!'.repeat(100)
  process.stderr.write(`\n${line}\nTESTS SKIPPED, no ${reason}\n${line}\n`)
  return { missing: reason }
}

/** The variable's value if something answers there. */
async function given(variable: string, answering: (value: string) => Promise<unknown>): Promise<string | undefined> {
  const value = process.env[variable]
  if (!value) return undefined
  try {
    await answering(value)
    return value
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    process.stderr.write(`tests: nothing answers at ${variable} (${reason}); using a server of our own\n`)
    return undefined
  }
}

async function redisAnswers(url: string): Promise<void> {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: null, connectTimeout: 3_000 })
  client.on('error', () => {})
  try {
    await client.connect()
    await client.ping()
  } finally {
    client.disconnect()
  }
}

function parseNodes(list: string): URL[] {
  return list.split(',').map((node) => new URL(`redis://${node.trim()}`))
}

async function postgresAnswers(connectionString: string): Promise<void> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 3_000 })
  await client.connect()
  await client.end()
}
