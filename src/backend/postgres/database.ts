/** A database whose schema is brought up to date before its first statement. */
import type { Client, Row, Value } from './connection.js'
import { migrate as migrateSchema } from './schema.js'

export interface Database {
  /** The schema, quoted: what the names of tables and functions in a statement begin with. */
  readonly schema: string
  /** Whether the schema is there: false until a call has made or found it. */
  readonly used: boolean
  /** One statement, on tables that are there by the time it runs. */
  query(text: string, values: readonly Value[]): Promise<Row[]>
  /** What `ask` resolves with. It may use the schema, over any connection. */
  use<T>(ask: () => Promise<T>): Promise<T>
  /** Makes the schema or brings it up to date; does nothing if that was done. */
  migrate(): Promise<void>
}

export function openDatabase(client: Client, schemaName: string): Database {
  const schema = `"${schemaName}"`
  let migrated: Promise<void> | undefined
  let used = false

  const migrate = () => {
    const attempt: Promise<void> =
      migrated ??
      migrateSchema(client, schemaName).then(
        () => {
          used = true
        },
        (error) => {
          if (migrated === attempt) migrated = undefined
          throw error
        },
      )
    migrated = attempt
    return attempt
  }

  const use = async <T>(ask: () => Promise<T>): Promise<T> => {
    await migrate()
    try {
      return await ask()
    } catch (error) {
      // Somebody dropped the schema, or the address leads to another server now: the next statement makes it again.
      if (SCHEMA_IS_MISSING.has((error as { code?: string }).code ?? '')) migrated = undefined
      throw error
    }
  }

  return {
    schema,
    get used() {
      return used
    },
    migrate,
    use,
    query: (text, values) => use(() => client.query(text, values)),
  }
}

/** Codes of PostgreSQL: undefined_table, undefined_function, invalid_schema_name. */
const SCHEMA_IS_MISSING = new Set(['42P01', '42883', '3F000'])
