/** The step of the schema that keeps who holds a session. */

export const holdersMigration = (_schema: string, s: string, locks: { session: number }): string => `
-- Names, with a blank between them. Room in the page for more versions of the row, because they come and go.
alter table ${s}.sessions add column holders text not null default '';
alter table ${s}.sessions set (fillfactor = 80);

create function ${s}.create_session(_id text, _record text, _revision bigint, _ttl float8, _holder text)
returns boolean language plpgsql as $f$
begin
  perform pg_advisory_xact_lock(${locks.session}, hashtext(_id));
  perform from ${s}.tombstones where id = _id and expires_at > clock_timestamp();
  if found then return false; end if;
  delete from ${s}.sessions where id = _id and expires_at <= clock_timestamp();
  insert into ${s}.sessions (id, record, revision, expires_at, holders)
  values (_id, _record, _revision, ${s}.later(_ttl), _holder)
  on conflict do nothing;
  return found;
end $f$;

-- The row's lock puts it in order with update and delete: they see the holder, or this sees what they did.
create function ${s}.load_and_hold(_id text, _holder text) returns table (record text, holders text)
language plpgsql as $f$
#variable_conflict use_column
begin
  select s.record, s.holders into record, holders from ${s}.sessions as s
  where id = _id and expires_at > clock_timestamp();
  if not found then return; end if;
  if not _holder = any(string_to_array(holders, ' ')) then
    update ${s}.sessions as s set holders = ltrim(s.holders || ' ' || _holder)
    where id = _id and expires_at > clock_timestamp() returning s.record, s.holders into record, holders;
    if not found then return; end if;
  end if;
  return next;
end $f$;

create function ${s}.release(_id text, _holders text) returns void language sql as $f$
  update ${s}.sessions set holders = array_to_string(array(
    select holder from unnest(string_to_array(holders, ' ')) as holder
    where not holder = any(string_to_array(_holders, ' '))
  ), ' ') where id = _id
$f$;

create function ${s}.delete_held_session(_id text, _tombstone float8) returns text language plpgsql as $f$
declare
  _expires timestamptz;
  _holders text;
begin
  perform ${s}.delete_streams(_id, _tombstone);
  delete from ${s}.sessions where id = _id returning expires_at, holders into _expires, _holders;
  return case when _expires > clock_timestamp() then _holders end;
end $f$;
`
