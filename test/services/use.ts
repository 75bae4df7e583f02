/**
 * How a test file gets at a real service. Each function starts it at the first call of the whole run; all files share it, so
 * use names of your own in it.
 *
 * @example
 * describeWith('redis backend', await redisUrl(), (url) => {
 *   test('…', async () => { redis({ url, prefix: unique() }) })
 * })
 */
import { randomUUID } from 'node:crypto'
import { describe, inject, onTestFinished, test } from 'vitest'
import type { PrivateServer } from './children.js'
import { launchPostgres } from './postgres.js'
import { launchRedis, launchRedisCluster, type RedisCluster } from './redis.js'
import type { Answer, Services } from './setup.js'

export type { PrivateServer } from './children.js'

// A hung test would keep its worker, and with it the servers it started, running after an interrupted run.
process.once('disconnect', () => process.exit(1))

const reasons = new Map<keyof Services, string>()

/** Undefined: not to be had here, and the user was told why. Throws when that is an error (`CI` set). */
async function ask<K extends keyof Services>(name: K): Promise<Services[K] | undefined> {
  const address = inject('services')
  if (!address) throw new Error("vitest.config.ts lacks globalSetup: ['test/services/setup.ts']")
  const response = await fetch(`${address}/${name}`)
  const answer = (await response.json()) as Answer<Services[K]>
  if ('failed' in answer) throw new Error(answer.failed)
  if ('value' in answer) return answer.value
  reasons.set(name, answer.missing)
  return undefined
}

/** A Redis 7 or later, or a Valkey: `redis://…`. */
export const redisUrl = (): Promise<string | undefined> => ask('redis')

/** Three masters of a Redis Cluster. */
export const redisClusterNodes = (): Promise<{ host: string; port: number }[] | undefined> => ask('redis-cluster')

/** A PostgreSQL, as a user that may create tables: `postgres://…`. */
export const postgresUrl = (): Promise<string | undefined> => ask('postgres')

/** The path of a Chromium or Chrome. */
export const chromium = (): Promise<string | undefined> => ask('chromium')

/** Whether `startRedis` will work; for `describeWith`. */
export const redisProgram = (): Promise<string | undefined> => ask('redis-binary')

/** Whether `startPostgres` will work; for `describeWith`. */
export const postgresProgram = (): Promise<string | undefined> => ask('postgres-binary')

/**
 * A Redis server of the test's own, which it may freeze, kill and restart (its data survives both). Stopped with the test that
 * started it; elsewhere than in a test, call `stop`.
 */
export async function startRedis(settings?: readonly string[]): Promise<PrivateServer> {
  const program = await redisProgram()
  if (!program) throw new Error(`no ${reasons.get('redis-binary')}`)
  return stoppedAfterTest(await launchRedis(program, settings))
}

/** Like {@link startRedis}: three masters, and if asked for a replica of each. Takes some seconds. */
export async function startRedisCluster(options: { replicas?: boolean } = {}): Promise<RedisCluster> {
  const program = await redisProgram()
  if (!program) throw new Error(`no ${reasons.get('redis-binary')}`)
  return stoppedAfterTest(await launchRedisCluster(program, options))
}

/** Like {@link startRedis}. Takes about two seconds. */
export async function startPostgres(settings?: Readonly<Record<string, string>>): Promise<PrivateServer> {
  const program = await postgresProgram()
  if (!program) throw new Error(`no ${reasons.get('postgres-binary')}`)
  return stoppedAfterTest(await launchPostgres(program, settings))
}

function stoppedAfterTest<T extends { stop(): Promise<void> }>(server: T): T {
  try {
    onTestFinished(() => server.stop())
  } catch {
    // Not within a test: the caller stops it.
  }
  return server
}

/** `describe` with a service; skipped, with the reason as the title of its only test, if there is none. */
export function describeWith<T>(title: string, service: T | undefined, body: (service: T) => void): void {
  if (service !== undefined) {
    describe(title, () => body(service))
    return
  }
  describe.skip(title, () => {
    test.skip(`needs ${[...reasons.values()].join('; ') || 'a service'}`, () => {})
  })
}

/** A prefix for keys, or a name for a schema, that no other test has. */
export const unique = (): string => `t${randomUUID().replaceAll('-', '').slice(0, 16)}`
