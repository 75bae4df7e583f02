/** The step of the schema that limits the state of a session. */
import { OWN_STATE } from '../backend.js'

export const stateLimitMigration = (_schema: string, s: string): string => `
  -- UTF-16 code units of key and value; null: written by a node of the version before.
  alter table ${s}.state add column size bigint;

  -- _max_keys and _max_size are both null, or neither is.
  create function ${s}.set_state(
    _session text, _key text, _value text, _expected bigint, _size bigint, _max_keys bigint, _max_size bigint
  ) returns text language plpgsql as $f$
  declare
    _outcome text;
    _revision bigint;
    _before bigint;
    _keys bigint;
    _total bigint;
  begin
    if _max_keys is not null and _value is not null then
      -- What is counted does not change before this is done.
      perform from ${s}.sessions where id = _session and expires_at > clock_timestamp() for no key update;
      if not found then return 'gone'; end if;
      select revision, coalesce(size, char_length(key) + char_length(value)) into _revision, _before
      from ${s}.state where session = _session and key = _key;
      if coalesce(_revision, 0) <> _expected then return 'conflict'; end if;
      select count(*), coalesce(sum(coalesce(size, char_length(key) + char_length(value))), 0) into _keys, _total
      from ${s}.state where session = _session and key <> _key and not starts_with(key, '${OWN_STATE}');
      if _revision is null and _keys >= _max_keys then return 'too-many'; end if;
      if _total + _size > _max_size and _size > coalesce(_before, 0) then return 'too-large'; end if;
    end if;
    _outcome := ${s}.set_state(_session, _key, _value, _expected);
    if _outcome = 'ok' and _value is not null then
      update ${s}.state set size = _size where session = _session and key = _key;
    end if;
    return _outcome;
  end $f$;
`
