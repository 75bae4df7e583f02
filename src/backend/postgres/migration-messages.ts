/** The step of the schema that keeps messages in a table: a message is a row of its topic's channel; a notification only tells its id. */

export const messagesMigration = (_schema: string, s: string): string => `
  alter table ${s}.messages add column channel text collate "C" not null default '';

  -- Its only row is lost when the messages are, in a crash or a failover, and made again with another name.
  create unlogged table ${s}.message_log (
    one boolean primary key default true check (one),
    incarnation uuid not null default gen_random_uuid()
  );

  -- A function, because its plans are kept.
  create function ${s}.publish(_channel text, _body text, _ttl float8) returns void language plpgsql as $f$
  declare
    _id bigint;
  begin
    insert into ${s}.messages (channel, body, expires_at)
    values (_channel, _body, clock_timestamp() + _ttl * interval '1 millisecond') returning id into _id;
    perform pg_notify(_channel, _id::text);
  end $f$;
`
