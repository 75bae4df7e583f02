/** What the server must be able to do. */

/** The first version in which scripts may read the clock and then write: older servers refuse that, or replicate it wrongly. */
const OLDEST = 7

/**
 * Rejects if the server is too old, or is a member of a cluster that was reached by its address alone.
 * A server whose user may not ask for INFO is taken to be good enough.
 */
export async function requireServer(send: (args: string[]) => Promise<unknown>, byAddress: boolean): Promise<void> {
  let info: string
  try {
    info = String(await send(['info', 'server']))
  } catch (error) {
    if (error instanceof Error && /^(NOPERM|ERR unknown command)/.test(error.message)) return
    throw error
  }
  const version = /^redis_version:(.+)$/m.exec(info)?.[1]?.trim()
  if (version && Number.parseInt(version, 10) < OLDEST) {
    throw new Error(`the server is Redis ${version}, but mcp-roam needs Redis ${OLDEST} or later, or Valkey`)
  }
  if (byAddress && /^redis_mode:cluster/m.test(info)) {
    throw new Error(
      'the server is part of a Redis Cluster: hand in a cluster client, e.g. redis({ client: new Cluster([{ host, port }]) }) ' +
        'with Cluster of ioredis',
    )
  }
}
