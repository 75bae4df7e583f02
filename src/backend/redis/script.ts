/** Lua scripts: each runs on the server as one step, which nothing comes between. */
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

/** Runs a script on the node that has its keys, which are all of one hash slot. */
export async function run(link: Link, { source, sha }: Script, keys: string[], args: string[] = []): Promise<unknown> {
  const rest = [String(keys.length), ...keys, ...args]
  try {
    return await link.send(keys[0], ['evalsha', sha, ...rest])
  } catch (error) {
    // The server was restarted or has not seen the script yet; it has executed nothing.
    if (!(error instanceof Error && error.message.includes('NOSCRIPT'))) throw error
    return link.send(keys[0], ['eval', source, ...rest])
  }
}

/** The server's clock in milliseconds, so that the nodes' clocks need not agree. To be put before a script that uses `now`. */
export const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** A duration as Redis takes it: a whole number of milliseconds, at least one, at most a thousand years. */
export function milliseconds(duration: number): string {
  return String(Math.min(Math.max(Math.ceil(duration), 1), 1_000 * 365 * 86_400_000))
}
