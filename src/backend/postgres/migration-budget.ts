/**
 * The step of the schema that keeps what the streams of a session weigh together, and drops what is too much. The functions of before
 * stay for nodes of the version before: what those append is weighed when a node of this version appends to the same stream.
 */
import { BATCH_TTL, RECENT_BATCHES, STREAM_WEIGHT } from '../backend.js'

export const budgetMigration = (_schema: string, s: string, locks: { session: number }): string => `
  -- weight: what session_weights has of the stream; 0 before its first append. Indexes must not have what each append changes.
  alter table ${s}.streams add column head_size bigint not null default 0;
  alter table ${s}.streams add column weight bigint not null default 0;
  alter table ${s}.streams add column ended_at timestamptz;
  -- It has ended, and its events were dropped.
  alter table ${s}.streams add column emptied boolean not null default false;
  create index on ${s}.streams (session, emptied, ended_at) where ended;
  create index on ${s}.streams (session) where not ended;

  create table ${s}.session_weights (session text collate "C" primary key, total bigint not null) with (fillfactor = 70);

  -- Whatever removes streams: sweeps, deletions, nodes of the version before.
  create function ${s}.forget_weights() returns trigger language plpgsql as $f$
  begin
    update ${s}.session_weights w set total = w.total - gone.weight
    from (select session, sum(weight) as weight from removed group by session) as gone
    where w.session = gone.session;
    delete from ${s}.session_weights w using removed where w.session = removed.session and w.total <= 0;
    return null;
  end $f$;
  create trigger forget_weights after delete on ${s}.streams
    referencing old table as removed for each statement execute function ${s}.forget_weights();

  create function ${s}.open_stream(
    _session text, _stream text, _head text, _head_size bigint, _writer text, _base bigint, _ttl float8
  ) returns boolean language plpgsql as $f$
  begin
    perform pg_advisory_xact_lock_shared(${locks.session}, hashtext(_session));
    perform from ${s}.tombstones where id = _session and expires_at > clock_timestamp();
    if found then return false; end if;
    delete from ${s}.streams where session = _session and stream = _stream and expires_at <= clock_timestamp();
    insert into ${s}.streams (session, stream, head, head_size, writer, first, last, expires_at, sweep_at)
    values (_session, _stream, _head, _head_size, _writer, _base + 1, _base, ${s}.later(_ttl), ${s}.sweep_at(_ttl))
    on conflict do nothing;
    return true;
  end $f$;

  -- Drops from a session's streams, but not from its own, until _over is spent; returns how much of that is left. Whoever appends has
  -- the session's row of session_weights, and must not wait for another stream's row, whose holder may wait for that one.
  create function ${s}.spend(_session text, _own bigint, _over bigint) returns bigint language plpgsql as $f$
  declare
    _s ${s}.streams;
  begin
    with expired as (
      delete from ${s}.streams where n in (
        select n from ${s}.streams where session = _session and not ended and expires_at <= clock_timestamp()
        for update skip locked)
      returning weight
    )
    select _over - coalesce(sum(weight), 0) into _over from expired;

    while _over > 0 loop
      select * into _s from ${s}.streams where session = _session and ended and n <> _own
      order by emptied, ended_at limit 1 for update skip locked;
      exit when not found;
      _over := _over - _s.weight;
      if _s.emptied then
        delete from ${s}.streams where n = _s.n;
      else
        delete from ${s}.events where stream = _s.n;
        update ${s}.streams set first = last + 1, emptied = true where n = _s.n;
        _over := _over + ${s}.weigh(_s.n, _session, 0);
      end if;
    end loop;

    while _over > 0 loop
      select * into _s from ${s}.streams where session = _session and not ended and n <> _own and first < last
      order by expires_at limit 1 for no key update skip locked;
      exit when not found;
      _over := _over - _s.weight + ${s}.trim(_s, _over);
    end loop;
    return _over;
  end $f$;

  -- Removes the oldest events of a stream, but not the newest, until _over is spent; returns what the stream weighs then.
  create function ${s}.trim(_s ${s}.streams, _over bigint) returns bigint language plpgsql as $f$
  declare
    _begin bigint;
    _first bigint;
  begin
    select start into _begin from ${s}.events where stream = _s.n and position = _s.first;
    select position, start into _first, _begin from ${s}.events
    where stream = _s.n and position > _s.first and (start >= _begin + _over or position = _s.last)
    order by position limit 1;
    delete from ${s}.events where stream = _s.n and position < _first;
    update ${s}.streams set first = _first where n = _s.n;
    return ${s}.weigh(_s.n, _s.session, _s.size - _begin);
  end $f$;

  -- Sets what a stream weighs that has events of so many code units; returns it.
  create function ${s}.weigh(_n bigint, _session text, _bytes bigint) returns bigint language plpgsql as $f$
  declare
    _before bigint;
    _weight bigint;
  begin
    select weight, head_size + ${STREAM_WEIGHT} + _bytes into _before, _weight from ${s}.streams where n = _n;
    update ${s}.streams set weight = _weight where n = _n;
    update ${s}.session_weights set total = total + _weight - _before where session = _session;
    return _weight;
  end $f$;

  create function ${s}.append_within(
    _session text, _stream text, _batch text, _writer text, _events text, _count int, _size bigint, _end boolean,
    _ttl float8, _max_events bigint, _max_size bigint, _max_session bigint, _after bigint
  ) returns bigint language plpgsql as $f$
  declare
    _s ${s}.streams;
    _seen bigint;
    _first bigint;
    _weight bigint;
    _total bigint;
    _over bigint;
    _known boolean := _count > 0 or _end;
  begin
    select * into _s from ${s}.streams
    where session = _session and stream = _stream and expires_at > clock_timestamp() for no key update;
    if not found then return null; end if;

    if _s.writer is null then
      select position into _seen from ${s}.batches where stream = _s.n and id = _batch;
    elsif _s.batch = _batch then
      _seen := _s.last;
    end if;
    if _seen is not null then return _seen; end if;
    if _s.ended or (_s.writer is not null and _s.writer is distinct from _writer) then return null; end if;
    -- It came late: its writer has gone on since.
    if _known and _s.writer is not null and _after < _s.last then return null; end if;

    if _after > _s.last then
      delete from ${s}.events where stream = _s.n;
      _s.last := _after;
      _s.first := _after + 1;
    end if;

    if _count > 0 then
      insert into ${s}.events (stream, position, start, data)
      select _s.n, _s.last + p, _s.size + s, d
      from json_to_recordset(_events::json) as e(p bigint, s bigint, d text);
      _s.last := _s.last + _count;
      _s.size := _s.size + _size;
    end if;
    if _known and _s.writer is not null then
      _s.batch := _batch;
    elsif _known then
      _s.batches := _s.batches + 1;
      insert into ${s}.batches (stream, id, number, position) values (_s.n, _batch, _s.batches, _s.last);
      -- Not at each append, because it looks at all of the stream's.
      if _s.batches % 250 = 0 then
        delete from ${s}.batches where stream = _s.n
          and (number <= _s.batches - ${RECENT_BATCHES} or at < clock_timestamp() - ${BATCH_TTL} * interval '1 millisecond');
      end if;
    end if;

    _first := greatest(_s.first, _s.last - _max_events + 1);
    if _s.size > _max_size and _first < _s.last then
      select position into _first from ${s}.events
      where stream = _s.n and position >= _first and start >= _s.size - _max_size order by position limit 1;
      _first := coalesce(_first, _s.last);
    end if;
    if _first > _s.first then
      delete from ${s}.events where stream = _s.n and position >= _s.first and position < _first;
      _s.first := _first;
    end if;

    -- Not from what the stream weighed before: a node of the version before may have appended since.
    select _s.head_size + ${STREAM_WEIGHT} + coalesce(_s.size - start, 0) into _weight
    from (select) as one left join ${s}.events on stream = _s.n and position = _s.first;
    update ${s}.streams set first = _s.first, last = _s.last, size = _s.size, ended = _end, batches = _s.batches,
      batch = _s.batch, expires_at = ${s}.later(_ttl), sweep_at = ${s}.sweep_at(_ttl), weight = _weight,
      ended_at = case when _end then clock_timestamp() end, emptied = _end and _s.first > _s.last
    where n = _s.n;
    insert into ${s}.session_weights as w (session, total) values (_session, _weight - _s.weight)
    on conflict (session) do update set total = w.total + excluded.total returning total into _total;
    if _total > _max_session then
      _over := ${s}.spend(_session, _s.n, _total - _max_session);
      if _over > 0 and _s.first < _s.last then perform ${s}.trim(_s, _over); end if;
    end if;
    return _s.last;
  end $f$;
`
