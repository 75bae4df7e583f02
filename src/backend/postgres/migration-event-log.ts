/**
 * A version of the schema: streams with a writer have no rows of batches any more, and many streams are looked at, and kept, with one
 * statement. The functions of before stay for nodes of the version before.
 */
import { BATCH_TTL, RECENT_BATCHES } from '../backend.js'

export const eventLogMigration = (_schema: string, s: string): string => `
  -- Of a stream with a writer, its last batch.
  alter table ${s}.streams add column batch text;
  alter table ${s}.batches add column at timestamptz not null default clock_timestamp();

  create function ${s}.append_batch(
    _session text, _stream text, _batch text, _writer text, _events text, _count int, _size bigint, _end boolean,
    _ttl float8, _max_events bigint, _max_size bigint, _after bigint
  ) returns bigint language plpgsql as $f$
  declare
    _s ${s}.streams;
    _seen bigint;
    _first bigint;
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
    end if;

    update ${s}.streams set first = _first, last = _s.last, size = _s.size, ended = _end, batches = _s.batches,
      batch = _s.batch, expires_at = ${s}.later(_ttl), sweep_at = ${s}.sweep_at(_ttl)
    where n = _s.n;
    return _s.last;
  end $f$;

  -- How streams stand, a row for each that is there; _sessions and _streams are JSON arrays of the same length.
  create function ${s}.look(_sessions text, _streams text)
  returns table (
    place text, writer text, reader text, sent text, first text, last text, ended text
  ) language plpgsql stable as $f$
  #variable_conflict use_column
  begin
    return query
    select a.place::text, s.writer, s.reader, s.sent::text, s.first::text, s.last::text, s.ended::text
    from rows from (json_array_elements_text(_sessions::json), json_array_elements_text(_streams::json))
      with ordinality as a(session, stream, place)
    join ${s}.streams s on s.session = a.session and s.stream = a.stream
    where s.expires_at > clock_timestamp();
  end $f$;

  -- Keeps streams from expiring. In one order, so that two nodes never wait for each other.
  create function ${s}.keep(_sessions text, _streams text, _ttl float8, _finished_ttl float8)
  returns void language plpgsql as $f$
  begin
    with kept as (
      select s.n, case when s.ended then _finished_ttl else _ttl end as ttl
      from rows from (json_array_elements_text(_sessions::json), json_array_elements_text(_streams::json))
        as a(session, stream)
      join ${s}.streams s on s.session = a.session and s.stream = a.stream
      where s.expires_at > clock_timestamp()
      order by s.n for no key update of s
    )
    update ${s}.streams s set expires_at = ${s}.later(kept.ttl), sweep_at = ${s}.sweep_at(kept.ttl)
    from kept where s.n = kept.n;
  end $f$;
  `
