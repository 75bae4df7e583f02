/** The tables and functions, and how they are made in a database. */
import { createHash } from 'node:crypto'
import type { Client } from './connection.js'
import { type Locks, MIGRATIONS } from './migrations.js'

/**
 * Checks a schema's name: it must be safe inside double quotes, dollar quotes and literals. It is quoted wherever it is used all
 * the same.
 */
export function checkSchema(name: string): string {
  if (
    typeof name !== 'string' ||
    !/^[A-Za-z_][A-Za-z0-9_-]{0,62}$/.test(name) ||
    /^(pg_|information_schema$)/i.test(name)
  ) {
    throw new TypeError(
      'postgres: `schema` cannot be used; write a name of up to 63 letters, digits, "_" and "-" that begins with a letter or "_" and not with "pg_", such as "mcp_roam"',
    )
  }
  return name
}

/** How long one migration may take, in milliseconds, with the wait for another node that is doing it. */
const MIGRATION_TIMEOUT = 60_000

/** Makes the schema, or brings it up to date. One of a newer version is left as it is: newer versions must keep older nodes working. */
export async function migrate(client: Client, schemaName: string): Promise<void> {
  const schema = `"${schemaName}"`
  const [found] = await client.query('select to_regclass($1)::text', [`${schema}.migrations`])
  let version = 0
  if (found?.[0]) {
    const [newest] = await client.query(`select max(version)::text from ${schema}.migrations`, [])
    version = Number(newest?.[0] ?? 0)
  }
  const locks = locksOf(schemaName)
  for (const [index, definitions] of MIGRATIONS.entries()) {
    const target = index + 1
    if (version >= target) continue
    // One statement, so that all of it is done or nothing. A node that had to wait for the lock looks again, and finds it done.
    const text = `do $migration$ begin
      perform pg_advisory_xact_lock(${locks.migration});
      -- Not to_regclass, which may answer from what this connection knew before it waited for the lock.
      if exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where n.nspname = '${schemaName}' and c.relname = 'migrations') then
        if exists (select from ${schema}.migrations where version >= ${target}) then return; end if;
      end if;
      ${definitions(schemaName, schema, locks)}
      insert into ${schema}.migrations (version) values (${target});
    end $migration$`
    await client.query(text, [], MIGRATION_TIMEOUT)
  }
}

/** The numbers of the locks. All users of a database share its advisory locks, so these are made of the name, to be like nobody else's. */
function locksOf(schemaName: string): Locks {
  const digest = createHash('sha256').update(`mcp-roam ${schemaName}`).digest()
  return {
    migration: String(digest.readBigInt64BE(0)),
    sweep: String(digest.readBigInt64BE(8)),
    session: digest.readInt32BE(16),
  }
}
