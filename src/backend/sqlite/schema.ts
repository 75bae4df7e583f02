import type Database from 'better-sqlite3'

/** 'ROAM'. Marks the file as one of mcp-roam, so that a wrong path does not put tables into somebody else's database. */
const APPLICATION_ID = 0x524f414d

/**
 * One entry for each version of the schema, applied in order; `PRAGMA user_version` says how many a file has had. An entry never
 * changes once it was released: a change is a new entry. All times are milliseconds since the epoch.
 */
export const MIGRATIONS = [
  `
  CREATE TABLE sessions (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    revision INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    record TEXT NOT NULL
  );
  CREATE INDEX sessions_expiry ON sessions (expires_at);

  -- AUTOINCREMENT: a value that is removed and set again never gets a revision that it had before.
  CREATE TABLE state (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    session INTEGER NOT NULL REFERENCES sessions (n) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (session, key)
  );

  CREATE TABLE tombstones (
    id TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX tombstones_expiry ON tombstones (expires_at);

  CREATE TABLE streams (
    n INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    stream TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    -- A little later, and so rarely changed: expires_at changes at each append, and an index on it would too.
    sweep_at INTEGER NOT NULL,
    writer TEXT,
    reader TEXT,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    size INTEGER NOT NULL,
    batches INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    head TEXT NOT NULL,
    UNIQUE (session, stream)
  );
  CREATE INDEX streams_sweep ON streams (sweep_at);

  CREATE TABLE events (
    stream INTEGER NOT NULL,
    position INTEGER NOT NULL,
    size INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (stream, position)
  ) WITHOUT ROWID;

  -- The recent batches of each stream; not a column of events, because those of a batch may have been trimmed.
  CREATE TABLE batches (
    stream INTEGER NOT NULL,
    n INTEGER NOT NULL,
    id TEXT NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (stream, id)
  ) WITHOUT ROWID;

  -- AUTOINCREMENT: readers go by id, so an id must not come back after the newest message was swept.
  CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    published_at INTEGER NOT NULL,
    topic TEXT NOT NULL,
    message TEXT NOT NULL
  );

  CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
  ) WITHOUT ROWID;
  `,

  // Null in rows of an older version, and where it cannot be found out: then only the expiry says whether the node is alive.
  `
  ALTER TABLE nodes ADD COLUMN place TEXT;
  ALTER TABLE nodes ADD COLUMN pid INTEGER;
  `,

  // Null: nobody has said yet how far the stream was sent.
  `
  ALTER TABLE streams ADD COLUMN sent INTEGER;
  `,

  // Names, with a blank between them.
  `
  ALTER TABLE sessions ADD COLUMN holders TEXT NOT NULL DEFAULT '';
  `,

  // The last batch of a stream with a writer; only those of other streams are rows of batches, with the time of each.
  `
  ALTER TABLE streams ADD COLUMN batch TEXT;
  ALTER TABLE batches ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
  `,

  // What the streams of a session weigh together, by triggers: whatever removes a stream, the total is right. A stream weighs
  // nothing before its first append under this version. appended: which of the session's appends was its last one, for a clock
  // may say the same of two; emptied: it has ended, and its events were dropped.
  `
  ALTER TABLE streams ADD COLUMN head_size INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE streams ADD COLUMN weight INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE streams ADD COLUMN appended INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE streams ADD COLUMN emptied INTEGER NOT NULL DEFAULT 0;
  CREATE INDEX streams_ended ON streams (session, emptied, appended) WHERE ended = 1;
  CREATE INDEX streams_unfinished ON streams (session) WHERE ended = 0;

  CREATE TABLE session_weights (
    session TEXT PRIMARY KEY,
    total INTEGER NOT NULL,
    -- How many there were since the row was made.
    appends INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE TRIGGER stream_weighed AFTER UPDATE OF weight ON streams WHEN new.weight <> old.weight BEGIN
    UPDATE session_weights SET total = total + new.weight - old.weight WHERE session = new.session;
  END;
  CREATE TRIGGER stream_removed AFTER DELETE ON streams WHEN old.weight > 0 BEGIN
    UPDATE session_weights SET total = total - old.weight WHERE session = old.session;
    DELETE FROM session_weights WHERE session = old.session AND total <= 0;
  END;

  -- UTF-16 code units of key and value. In an index with all that is asked for: beside a value it would be read with the value.
  ALTER TABLE state ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
  UPDATE state SET size = length(key) + length(value);
  CREATE INDEX state_sizes ON state (session, key, size);
  `,
]

/** Brings the file to the newest version; of several processes that open it at once, one does the work. */
export function migrate(db: Database.Database): void {
  // In a transaction, because it reads several things that another process may be changing together.
  if (db.transaction(() => versionOf(db))() === MIGRATIONS.length) return
  // Immediate: the version is read again under the write lock, so that processes which had to wait for it find the work done.
  db.transaction(() => {
    for (const migration of MIGRATIONS.slice(versionOf(db))) db.exec(migration)
    db.pragma(`application_id = ${APPLICATION_ID}`)
    db.pragma(`user_version = ${MIGRATIONS.length}`)
  }).immediate()
}

function versionOf(db: Database.Database): number {
  const version = Number(db.pragma('user_version', { simple: true }))
  const application = Number(db.pragma('application_id', { simple: true }))
  const isEmpty = version === 0 && application === 0 && db.prepare('SELECT 1 FROM sqlite_master').get() === undefined
  if (!isEmpty && application !== APPLICATION_ID)
    throw new Error('The file is a SQLite database, but not one of mcp-roam.')
  if (version > MIGRATIONS.length) throw new Error('The database was written by a newer version of mcp-roam.')
  return version
}
