/** The database, whose schema is brought up to date before its first statement. */
import type { Client, Row, Value } from './connection.js'
import { migrate as migrateSchema } from './schema.js'

/** Statements on tables that are there by the time they run. */
export interface Database {
  /** The schema, quoted: what table names in a statement begin with. */
  readonly schema: string
  /** Whether somebody has used it with success. */
  readonly used: boolean
  query(text: string, values: readonly Value[]): Promise<Row[]>
  migrate(): Promise<void>
}

/** A database whose schema is brought up to date before its first statement. */
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

  return {
    schema,
    get used() {
      return used
    },
    migrate,
    async query(text, values) {
      await migrate()
      try {
        return await client.query(text, values)
      } catch (error) {
        // Somebody dropped the schema, or this is another server than before: the next statement finds new tables.
        if (MISSING.has((error as { code?: string }).code ?? '')) migrated = undefined
        throw error
      }
    },
  }
}

/** undefined_table, undefined_function, invalid_schema_name. */
const MISSING = new Set(['42P01', '42883', '3F000'])
