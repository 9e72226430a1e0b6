-- What an earlier owner of the table was granted, or has granted, does not outlive his ownership.
-- API: private
create function motive.revoke_everything(function regproc) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    grantee oid;
begin
    execute format('revoke all on function %s from public', function);
    for grantee in
        select distinct g.grantee from pg_proc as p cross join lateral aclexplode(p.proacl) as g
        where p.oid = function and g.grantee <> p.proowner and g.grantee <> 0
    loop
        execute format('revoke all on function %s from %s cascade', function, grantee::regrole);
    end loop;
end
$$;
comment on function motive.revoke_everything(regproc) is 'Leaves a function to its owner alone';
revoke all on function motive.revoke_everything(regproc) from public;

-- The statements that enqueue what `rows` holds, in a trigger function in which motive_new and, after an update, motive_old
-- are visible: one entry for all rows, or, after a statement of more than a thousand, one for each thousand.
-- API: private
create function motive.capture_statements(s motive.shape, form text, key text, keys text, together text, rows text) returns text
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select format($body$
    insert into motive.queue (attachment, %6$s)
    select %1$s, %2$s from (select %4$s from %5$s limit 1001) as n having count(*) between 1 and 1000;
    if not found and (select count(*) from motive_new) > 1000 then
        insert into motive.queue (attachment, %6$s)
        select %1$s, %7$s(e.key) from (select %3$s as key, (row_number() over () - 1) / 1000 as part from %5$s) as e group by e.part;
    end if;
    return null;$body$,
        s.id, keys, key, s.key_list_of_n, rows, form, together)
$$;
comment on function motive.capture_statements(motive.shape, text, text, text, text, text) is 'The part of a capturing trigger function that enqueues';
revoke all on function motive.capture_statements(motive.shape, text, text, text, text, text) from public;

-- The rows of an update whose text has changed: `same_row` joins old and new ones, `as_text` writes a column as a text.
-- API: private
create function motive.changed_rows(s motive.shape, same_row text, as_text text) returns text
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select format('motive_new as n left join motive_old as o on %1$s where %2$s and (%3$s is null or o.%4$s is null or %5$s collate "C" <> %6$s collate "C")',
        same_row, s.pending, s.first_key, s.body, format(as_text, 'n.' || s.body), format(as_text, 'o.' || s.body))
$$;
comment on function motive.changed_rows(motive.shape, text, text) is 'What an update enqueues';
revoke all on function motive.changed_rows(motive.shape, text, text) from public;

-- They run as the extension's owner, on a table and perhaps on a trigger that its owner has changed since. So they look
-- whether their trigger has the transition tables at all: in any other, motive_new would be a temporary table or view of
-- whoever writes, with functions of his. And they look at the columns' types first. As they were: the quick way, where only casts and operators of pg_catalog apply. Changed: by
-- output functions, which nobody but a superuser can write. No text any more, or a column renamed or dropped: nothing
-- is enqueued, the user's statement does not fail, and motive.status says what stands in the way.
-- API: private
create function motive.generate_capture(s motive.shape) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $generate$
declare
    a motive.attachment := (select t from motive.attachment as t where t.id = s.id);
    hash constant name := (select n.name from motive.annotation_columns(a.prefix) as n where n.role = 'hash');
    inline constant boolean := a.mode = 'inline'; -- only then s.pending looks at the hash
    body constant text := $body$
begin
    if exists (select from pg_trigger where tgrelid = tg_relid and tgname = tg_name and %7$s) and %1$s then%2$s
    end if;
    if not exists (select from pg_trigger where tgrelid = tg_relid and tgname = tg_name and %7$s) then
        raise exception using errcode = 'triggered_action_exception', message = 'only motive.attach() makes triggers of this function';
    end if;
    if not exists (select from pg_attribute where attrelid = tg_relid and attname = %3$L and motive.holds_text(atttypid))
        or (select count(*) from pg_attribute where attrelid = tg_relid and attname in (%4$s)) < %5$s then
        return null;
    end if;%6$s
end$body$;
    event record;
begin
    for event in
        select *
        from (values
            ('capture', 'motive_new as n where ' || s.pending, 'motive_new as n where ' || s.pending, '', 'tgnewtable = ''motive_new'''),
            -- A session plans these statements once, for the first statement's number of rows: without nested loops, old
            -- and new rows of a later and larger one are not compared each with each.
            ('recapture', motive.changed_rows(s, s.same_row, '%s::text'), motive.changed_rows(s, s.same_row_by_output, 'format(''%%s'', %s)'),
             ' set enable_nestloop to off', 'tgnewtable = ''motive_new'' and tgoldtable = ''motive_old''')
        ) as e (name, as_attached, by_output, settings, transition)
    loop
        execute format('create or replace function motive.%s_%s() returns trigger language plpgsql volatile parallel unsafe '
            'security definer set search_path to pg_catalog, pg_temp%s%s as %L', event.name, s.id, event.settings, s.settings,
            format(body,
                s.as_attached || case when inline then format(' and exists (select from pg_attribute where attrelid = tg_relid and attname = %L)', hash) else '' end,
                case when s.number_of_n is null then motive.capture_statements(s, 'keys', s.key_of_n, s.keys_of_n, 'jsonb_agg', event.as_attached)
                    else motive.capture_statements(s, 'numbers', s.number_of_n, format('array_agg(%s)', s.number_of_n), 'array_agg', event.as_attached) end,
                a.text_column, s.key_names || case when inline then ', ' || quote_literal(hash) else '' end,
                s.key_count + inline::integer,
                motive.capture_statements(s, 'keys', s.key_by_output, format('jsonb_agg(%s)', s.key_by_output), 'jsonb_agg', event.by_output),
                event.transition));
        execute format('comment on function motive.%s_%s() is %L', event.name, s.id, 'Enqueues what a statement on ' || s.relation || ' wrote');
        perform motive.revoke_everything(format('motive.%s_%s', event.name, s.id)::regproc);
        execute format('grant execute on function motive.%s_%s() to %s', event.name, s.id, s.owner::regrole);
    end loop;
end
$generate$;
comment on function motive.generate_capture(motive.shape) is 'Writes the trigger functions of an attachment that enqueue';
revoke all on function motive.generate_capture(motive.shape) from public;

-- Runs as whoever writes the row, and so needs no care about types. A column that was renamed or dropped makes no
-- statement of a user fail: then the row stays as it is, and motive.status says what stands in the way. What a new row
-- brings along is believed where it is whole and of its text: moved from another partition, restored, or copied.
-- API: private
create function motive.generate_guard(s motive.shape) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $generate$
declare
    a motive.attachment := (select t from motive.attachment as t where t.id = s.id);
    names text := (select string_agg(quote_literal(n.name), ', ') from motive.annotation_columns(a.prefix) as n);
    body text := format($body$
begin
    if (select count(*) from pg_attribute where attrelid = tg_relid and attname in (%6$s)) < 5 then
        return new;
    end if;
    if tg_argv[0] = 'brought' then
        if not exists (select from pg_attribute where attrelid = tg_relid and attname = %7$L) then
            return new;
        end if;
        if num_nulls(new.%1$s, new.%2$s, new.%3$s, new.%4$s, new.%5$s) = 0 and new.%5$s is not distinct from %8$s then
            return new;
        end if;
    end if;
    if tg_argv[0] in ('reset', 'brought') then
        new.%1$s := null; new.%2$s := null; new.%3$s := null; new.%4$s := null; new.%5$s := null;
    else
        new.%1$s := old.%1$s; new.%2$s := old.%2$s; new.%3$s := old.%3$s; new.%4$s := old.%4$s; new.%5$s := old.%5$s;
    end if;
    return new;
end$body$, s.motive, s.confidence, s.motives, s.model, s.hash, names, a.text_column, motive.hash_expression('new.' || s.body));
begin
    execute format('create or replace function motive.guard_%s() returns trigger language plpgsql volatile parallel unsafe '
        'set search_path to pg_catalog, pg_temp as %L', s.id, body);
    execute format('comment on function motive.guard_%s() is %L', s.id, 'Keeps the annotation of ' || s.relation || ' true to its text');
    perform motive.revoke_everything(format('motive.guard_%s', s.id)::regproc);
    execute format('grant execute on function motive.guard_%s() to %s', s.id, s.owner::regrole);
end
$generate$;
comment on function motive.generate_guard(motive.shape) is 'Writes the trigger function of an attachment that keeps it true to the text';
revoke all on function motive.generate_guard(motive.shape) from public;
