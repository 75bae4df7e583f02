/** What the schema consists of: one entry for each of its versions. */
import { RECENT_BATCHES } from '../backend.js'
import { budgetMigration } from './migration-budget.js'
import { eventLogMigration } from './migration-event-log.js'
import { holdersMigration } from './migration-holders.js'
import { messagesMigration } from './migration-messages.js'
import { stateLimitMigration } from './migration-state-limit.js'

export interface Locks {
  /** Held while the schema changes. */
  migration: string
  /** Held by the node that sweeps. */
  sweep: string
  /** First half of each session's lock; the other half is a hash of the session id. */
  session: number
}

/**
 * One entry for each version of the schema. An entry never changes once it was released: a change is a new entry.
 *
 * `create_session`, `delete_session`, `open_stream` and `delete_streams` take the session's lock first, in a statement of its own.
 * At the isolation level READ COMMITTED the statements after it see what the last holder of the lock did.
 */
export const MIGRATIONS: readonly ((schema: string, quoted: string, locks: Locks) => string)[] = [
  (schema, s, locks) => `
    -- "if not exists" would want the right to create schemas even where there is one.
    if not exists (select from pg_namespace where nspname = '${schema}') then create schema ${s}; end if;

    create table ${s}.migrations (version int primary key, applied_at timestamptz not null default now());

    create table ${s}.sessions (
      id text collate "C" primary key,
      revision bigint not null,
      record text not null,
      expires_at timestamptz not null
    );
    create index on ${s}.sessions (expires_at);

    create table ${s}.tombstones (id text collate "C" primary key, expires_at timestamptz not null);
    create index on ${s}.tombstones (expires_at);

    -- One sequence for all, so that a value removed and set again has a revision that it never had.
    create sequence ${s}.state_revisions;
    create table ${s}.state (
      session text collate "C" references ${s}.sessions on delete cascade,
      key text collate "C",
      value text not null,
      revision bigint not null default nextval('${s}.state_revisions'),
      primary key (session, key)
    );

    -- An append changes its stream's row. That is cheap as long as it changes nothing indexed: hence sweep_at, which is
    -- expires_at rounded up to a minute, and room for more versions of the row in its page.
    create table ${s}.streams (
      n bigint generated always as identity primary key,
      session text collate "C" not null,
      stream text collate "C" not null,
      head text not null,
      writer text,
      reader text,
      first bigint not null,
      last bigint not null,
      -- UTF-16 code units of all events there ever were.
      size bigint not null default 0,
      ended boolean not null default false,
      -- How many there ever were.
      batches bigint not null default 0,
      expires_at timestamptz not null,
      sweep_at timestamptz not null,
      unique (session, stream)
    ) with (fillfactor = 70);
    create index on ${s}.streams (sweep_at);

    create table ${s}.events (
      stream bigint references ${s}.streams on delete cascade,
      position bigint,
      -- Size of all events before this one.
      start bigint not null,
      data text not null,
      primary key (stream, position)
    );

    create table ${s}.batches (
      stream bigint references ${s}.streams on delete cascade,
      id text collate "C",
      -- Which of the stream's batches it is, from 1.
      number bigint not null,
      -- What its append resolved with.
      position bigint not null,
      primary key (stream, id)
    );

    create table ${s}.nodes (id text collate "C" primary key, name text not null, expires_at timestamptz not null);

    -- Bodies too big for NOTIFY; losing them in a crash is no worse than losing the notification.
    create unlogged table ${s}.messages (
      id bigint generated always as identity primary key,
      body text not null,
      expires_at timestamptz not null
    );

    create function ${s}.later(_ms float8) returns timestamptz language sql volatile as $f$
      select clock_timestamp() + _ms * interval '1 millisecond'
    $f$;

    create function ${s}.sweep_at(_ttl float8) returns timestamptz language sql volatile as $f$
      select date_trunc('minute', ${s}.later(_ttl)) + interval '1 minute'
    $f$;

    create function ${s}.create_session(_id text, _record text, _revision bigint, _ttl float8)
    returns boolean language plpgsql as $f$
    begin
      perform pg_advisory_xact_lock(${locks.session}, hashtext(_id));
      perform from ${s}.tombstones where id = _id and expires_at > clock_timestamp();
      if found then return false; end if;
      delete from ${s}.sessions where id = _id and expires_at <= clock_timestamp();
      insert into ${s}.sessions (id, record, revision, expires_at) values (_id, _record, _revision, ${s}.later(_ttl))
      on conflict do nothing;
      return found;
    end $f$;

    create function ${s}.delete_session(_id text, _tombstone float8) returns boolean language plpgsql as $f$
    declare _expires timestamptz;
    begin
      perform ${s}.delete_streams(_id, _tombstone);
      delete from ${s}.sessions where id = _id returning expires_at into _expires;
      return coalesce(_expires > clock_timestamp(), false);
    end $f$;

    create function ${s}.delete_streams(_session text, _tombstone float8) returns void language plpgsql as $f$
    begin
      perform pg_advisory_xact_lock(${locks.session}, hashtext(_session));
      insert into ${s}.tombstones (id, expires_at) values (_session, ${s}.later(_tombstone))
      on conflict (id) do update set expires_at = excluded.expires_at;
      delete from ${s}.streams where session = _session;
    end $f$;

    create function ${s}.set_state(_session text, _key text, _value text, _expected bigint)
    returns text language plpgsql as $f$
    begin
      -- Keeps the session from being deleted until this is done.
      perform from ${s}.sessions where id = _session and expires_at > clock_timestamp() for key share;
      if not found then return 'gone'; end if;
      if _value is null then
        delete from ${s}.state where session = _session and key = _key and (_expected is null or revision = _expected);
        if found then return 'ok'; end if;
        if _expected > 0 then return 'conflict'; end if;
        perform from ${s}.state where session = _session and key = _key;
        return case when found and _expected = 0 then 'conflict' else 'ok' end;
      elsif _expected is null then
        insert into ${s}.state (session, key, value) values (_session, _key, _value)
        on conflict (session, key) do update set value = excluded.value, revision = excluded.revision;
      elsif _expected = 0 then
        insert into ${s}.state (session, key, value) values (_session, _key, _value) on conflict do nothing;
      else
        update ${s}.state set value = _value, revision = default
        where session = _session and key = _key and revision = _expected;
      end if;
      return case when found then 'ok' else 'conflict' end;
    end $f$;

    create function ${s}.open_stream(_session text, _stream text, _head text, _writer text, _base bigint, _ttl float8)
    returns boolean language plpgsql as $f$
    begin
      perform pg_advisory_xact_lock_shared(${locks.session}, hashtext(_session));
      perform from ${s}.tombstones where id = _session and expires_at > clock_timestamp();
      if found then return false; end if;
      delete from ${s}.streams where session = _session and stream = _stream and expires_at <= clock_timestamp();
      insert into ${s}.streams (session, stream, head, writer, first, last, expires_at, sweep_at)
      values (_session, _stream, _head, _writer, _base + 1, _base, ${s}.later(_ttl), ${s}.sweep_at(_ttl))
      on conflict do nothing;
      return true;
    end $f$;

    -- _events: JSON array of {p: 1 for the first, s: size of those before it in the batch, d: text}.
    create function ${s}.append(
      _session text, _stream text, _batch text, _writer text, _events text, _count int, _size bigint, _end boolean,
      _ttl float8, _max_events bigint, _max_size bigint
    ) returns bigint language plpgsql as $f$
    declare
      _s ${s}.streams;
      _seen bigint;
      _first bigint;
    begin
      select * into _s from ${s}.streams
      where session = _session and stream = _stream and expires_at > clock_timestamp() for no key update;
      if not found then return null; end if;

      select position into _seen from ${s}.batches where stream = _s.n and id = _batch;
      if found then return _seen; end if;
      if _s.ended or (_s.writer is not null and _s.writer is distinct from _writer) then return null; end if;

      if _count > 0 then
        insert into ${s}.events (stream, position, start, data)
        select _s.n, _s.last + p, _s.size + s, d
        from json_to_recordset(_events::json) as e(p bigint, s bigint, d text);
        _s.last := _s.last + _count;
        _s.size := _s.size + _size;
      end if;
      _s.batches := _s.batches + 1;
      insert into ${s}.batches (stream, id, number, position) values (_s.n, _batch, _s.batches, _s.last);
      -- Not at each append, because it looks at all of the stream's.
      if _s.batches % 250 = 0 then
        delete from ${s}.batches where stream = _s.n and number <= _s.batches - ${RECENT_BATCHES};
      end if;

      _first := greatest(_s.first, _s.last - _max_events + 1);
      if _s.size > _max_size and _first < _s.last then
        select position into _first from ${s}.events
        where stream = _s.n and position >= _first and start >= _s.size - _max_size order by position limit 1;
        _first := coalesce(_first, _s.last);
      end if;
      if _first > _s.first then
        delete from ${s}.events where stream = _s.n and position >= _s.first and position < _first;
      end if;

      update ${s}.streams set first = _first, last = _s.last, size = _s.size, ended = _end, batches = _s.batches,
        expires_at = ${s}.later(_ttl), sweep_at = ${s}.sweep_at(_ttl)
      where n = _s.n;
      return _s.last;
    end $f$;

    -- How the stream stands, once for each event, or once with nulls. A function, because its plan is kept.
    create function ${s}.read_stream(_session text, _stream text, _after bigint, _limit bigint)
    returns table (
      head text, writer text, reader text, first text, last text, ended text, "position" text, data text
    ) language plpgsql stable as $f$
    #variable_conflict use_column
    begin
      return query
      select s.head, s.writer, s.reader, s.first::text, s.last::text, s.ended::text, e.position::text, e.data
      from ${s}.streams s left join lateral (
        select position, data from ${s}.events
        where stream = s.n and position > _after and position >= s.first order by position limit _limit
      ) e on true
      where s.session = _session and s.stream = _stream and s.expires_at > clock_timestamp()
      order by e.position;
    end $f$;

    -- Removes up to about _limit expired rows of each table; whoever else sweeps now, or holds a row, is not waited for.
    -- Returns the most that it removed of one table: call it again while that is _limit.
    create function ${s}.sweep(_limit int) returns int language plpgsql as $f$
    declare
      _most int := 0;
      _count int;
    begin
      if not pg_try_advisory_xact_lock(${locks.sweep}) then return 0; end if;
      ${sweeping(`delete from ${s}.sessions where id in (
        select id from ${s}.sessions where expires_at <= now() order by expires_at limit _limit for update skip locked)`)}
      ${sweeping(`delete from ${s}.tombstones where id in (
        select id from ${s}.tombstones where expires_at <= now() order by expires_at limit _limit for update skip locked)`)}
      -- Events first, so that a stream with many of them takes several calls.
      ${sweeping(`delete from ${s}.events where (stream, position) in (
        select e.stream, e.position from (
          select n from ${s}.streams where sweep_at <= now() order by sweep_at limit _limit for update skip locked
        ) as expired join ${s}.events e on e.stream = expired.n limit _limit)`)}
      ${sweeping(`delete from ${s}.streams where n in (
        select n from ${s}.streams as s
        where sweep_at <= now() and not exists (select from ${s}.events where stream = s.n)
        order by sweep_at limit _limit for update skip locked)`)}
      ${sweeping(`delete from ${s}.nodes where id in (
        select id from ${s}.nodes where expires_at <= now() limit _limit for update skip locked)`)}
      ${sweeping(`delete from ${s}.messages where id in (
        select id from ${s}.messages where expires_at <= now() order by id limit _limit for update skip locked)`)}
      return _most;
    end $f$;
  `,
  // The functions of before stay for nodes of the version before.
  (_schema, s) => `
    alter table ${s}.streams add column sent bigint;

    -- How the stream stands, once for each event, or once with nulls. A function, because its plan is kept.
    create function ${s}.read_events(_session text, _stream text, _after bigint, _limit bigint)
    returns table (
      head text, writer text, reader text, sent text, first text, last text, ended text, "position" text, data text
    ) language plpgsql stable as $f$
    #variable_conflict use_column
    begin
      return query
      select s.head, s.writer, s.reader, s.sent::text, s.first::text, s.last::text, s.ended::text, e.position::text, e.data
      from ${s}.streams s left join lateral (
        select position, data from ${s}.events
        where stream = s.n and position > _after and position >= s.first order by position limit _limit
      ) e on true
      where s.session = _session and s.stream = _stream and s.expires_at > clock_timestamp()
      order by e.position;
    end $f$;
  `,
  holdersMigration,
  eventLogMigration,
  messagesMigration,
  budgetMigration,
  stateLimitMigration,
]

function sweeping(statement: string): string {
  return `${statement};
      get diagnostics _count = row_count;
      _most := greatest(_most, _count);`
}
