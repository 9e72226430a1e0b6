-- Which columns are annotated. A row says who asked for what; everything else is derived from the catalogs when the
-- functions of an attachment are generated.
-- API: private
create table motive.attachment (
    id integer generated always as identity primary key,
    target regclass not null,
    text_column name not null,
    mode text not null default 'queued' check (mode in (
        'queued', -- the statement only enqueues; a worker annotates
        'inline'  -- the statement annotates within a budget; what is left over is enqueued
    )),
    budget interval not null default interval '250 ms' check (budget > interval '0' and budget <= interval '1 min'),
    on_failure text not null default 'queue' check (on_failure in (
        'queue',  -- inline: a fault of the sidecar leaves the row to the worker
        'error'   -- inline: a fault of the sidecar fails the statement
    )),
    prefix name not null default 'motive',
    attached_at timestamptz not null default clock_timestamp(),
    generated_for text,
    unique (target, text_column),
    unique (target, prefix)
);
comment on table motive.attachment is 'Which columns of which tables are annotated, and how';
comment on column motive.attachment.target is 'The table';
comment on column motive.attachment.text_column is 'The column that is read';
comment on column motive.attachment.mode is 'queued or inline';
comment on column motive.attachment.budget is 'Inline: the time that one statement may spend on annotation';
comment on column motive.attachment.on_failure is 'Inline: queue or error, when the sidecar is at fault';
comment on column motive.attachment.generated_for is 'Digest of what its functions were generated from';
comment on column motive.attachment.prefix is 'How the annotation''s columns begin';
revoke all on motive.attachment from public;
select pg_catalog.pg_extension_config_dump('motive.attachment', '');
select pg_catalog.pg_extension_config_dump('motive.attachment_id_seq', '');

-- Policies, not functions of the owner, decide who may attach: they are checked as the caller, also inside attach().
alter table motive.attachment enable row level security;
create policy owners_write on motive.attachment
    using (pg_catalog.pg_has_role((select c.relowner from pg_catalog.pg_class as c where c.oid = target), 'USAGE'));
create policy readers_read on motive.attachment for select
    using (pg_catalog.has_table_privilege(target, 'SELECT') or pg_catalog.has_any_column_privilege(target, 'UPDATE'));
comment on policy owners_write on motive.attachment is 'Who owns the table may attach, change and detach';
comment on policy readers_read on motive.attachment is 'Who may read or update the table may see that it is annotated';

-- How texts are hashed, as an expression on a column: the first 16 bytes of the SHA-256 of its UTF-8.
-- API: private
create function motive.hash_expression(text_expression text) returns text
    language sql immutable strict parallel safe
    set search_path to pg_catalog, pg_temp
as $$ select format('substr(sha256(convert_to((%s)::text, ''UTF8'')), 1, 16)', text_expression) $$;
comment on function motive.hash_expression(text) is 'SQL for the hash of a text expression';
revoke all on function motive.hash_expression(text) from public;

-- Types whose values are texts: no conversion of a user's stands between a column and its text.
-- API: private
create function motive.holds_text(type oid) returns boolean
    language sql stable strict parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select coalesce((
        select case t.typtype when 'd' then t.typbasetype else t.oid end in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
        from pg_type as t where t.oid = holds_text.type), false)
$$;
comment on function motive.holds_text(oid) is 'Whether a type is text, varchar, char, or a domain over one of them';
revoke all on function motive.holds_text(oid) from public;

-- API: private
create function motive.key_columns(target regclass)
    returns table (name name, type text, type_id oid, plain boolean, exact boolean, digits boolean)
    language sql stable strict parallel safe rows 1
    set search_path to pg_catalog, pg_temp
as $$
    select a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid,
           -- Output that no session setting changes; the others are written under fixed settings.
           base.oid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'text'::regtype, 'varchar'::regtype,
                        'bpchar'::regtype, 'uuid'::regtype, 'numeric'::regtype, 'oid'::regtype, 'name'::regtype,
                        'bool'::regtype),
           -- Compared by an operator of pg_catalog, whatever else the search path of a session holds.
           base.typnamespace = 'pg_catalog'::regnamespace or base.typtype = 'e',
           base.oid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype)
    from pg_index as i
    cross join lateral unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join pg_type as t on t.oid = a.atttypid
    join pg_type as base on base.oid = case t.typtype when 'd' then t.typbasetype else t.oid end
    where i.indrelid = key_columns.target and i.indisprimary and k.position <= i.indnkeyatts
    order by k.position
$$;
comment on function motive.key_columns(regclass) is 'The primary key of a table, in order';
revoke all on function motive.key_columns(regclass) from public;

-- API: private
create function motive.annotation_columns(prefix name)
    returns table (role text, name name, type text)
    language sql immutable strict parallel safe rows 5
    set search_path to pg_catalog, pg_temp
as $$
    values ('motive', prefix, 'text'),
           ('confidence', (prefix || '_confidence')::name, 'real'),
           ('motives', (prefix || 's')::name, 'text[]'),
           ('model', (prefix || '_model')::name, 'text'),
           ('hash', (prefix || '_hash')::name, 'bytea')
$$;
comment on function motive.annotation_columns(name) is 'The columns that attach adds, with their types';
revoke all on function motive.annotation_columns(name) from public;
