/** Lua scripts: the server runs each as one step, and nothing else in between. */
import { createHash } from 'node:crypto'
import type { Link } from './link.js'

/** A script that the server knows by its hash once it has seen it. */
export interface Script {
  readonly source: string
  readonly sha: string
}

export function script(source: string): Script {
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}

/** Runs a script on the server that has its keys, which are all of one hash slot. */
export async function run(
  link: Pick<Link, 'send'>,
  { source, sha }: Script,
  keys: string[],
  args: string[] = [],
): Promise<unknown> {
  const rest = [String(keys.length), ...keys, ...args]
  try {
    return await link.send(keys[0], ['evalsha', sha, ...rest])
  } catch (error) {
    // The server does not know the script (yet, or since a restart), so it has executed nothing.
    if (!(error instanceof Error && error.message.includes('NOSCRIPT'))) throw error
    return link.send(keys[0], ['eval', source, ...rest])
  }
}

/**
 * Lua that sets `now` to the server's clock in milliseconds, and `micros` to the same in microseconds: the nodes' own clocks need not
 * agree. Goes before a script that uses it.
 */
export const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local micros = time[1] * 1000000 + time[2]
`

/** A duration as Redis takes it: a whole number of milliseconds, at least one, at most a thousand years. */
export function milliseconds(duration: number): string {
  return String(Math.min(Math.max(Math.ceil(duration), 1), 1_000 * 365 * 86_400_000))
}
