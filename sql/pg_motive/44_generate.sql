-- Functions are generated for each attachment, with static SQL so that PostgreSQL keeps their plans:
--   capture_N  trigger: enqueues; sees only the statement's transition tables; owned by the extension's owner
--   guard_N    trigger: sets columns of NEW; touches no table
--   inline_N   trigger: asks the sidecar and sets columns of NEW; owned by the extension's owner
--   read_N, scan_N, said_N, write_N  run SQL on the table, SECURITY DEFINER and owned by the TABLE's owner, so that
--              triggers and policies of the table have its owner's rights and never ours
-- Owners can ALTER what they own (SECURITY INVOKER, search_path), so each of the last four first makes sure that it
-- runs as the table's owner, with every name qualified.

-- API: private
create type motive.result as (
    e bigint,   -- entry
    k jsonb,    -- key
    h bytea,    -- hash of the text as it was read
    m text[],   -- motives, best first; empty for abstention
    c real,     -- confidence
    x text,     -- why the row itself is at fault; then m and c are null
    f boolean   -- no further attempt can help
);
comment on type motive.result is 'What has been found out about one key of an entry';

-- API: private
create type motive.shape as (
    id integer,
    relation text,      -- the table, quoted and qualified
    owner oid,          -- its owner
    body text,          -- the text column, quoted
    motive text,        -- the annotation's columns, quoted
    confidence text,
    motives text,
    model text,
    hash text,
    match text,         -- t's key equals that of g.key
    key_list text,      -- t's key columns, for order by
    key_values text,    -- the same, out of the jsonb array `after`
    key_of_t text,      -- t's key as a jsonb array of texts
    key_of_n text,      -- the same of n
    keys_of_n text,     -- all of n's keys as one jsonb array
    same_row text,      -- n's key equals o's
    first_key text,     -- of o: null where there is no old row
    columns text,       -- names that the triggers rely on, as a list of literals
    column_count integer,
    settings text,      -- further settings of the functions
    pending text        -- condition under which a row of n still needs a worker
);
comment on type motive.shape is 'What the generated functions of an attachment are made of';

-- API: private
create function motive.shape_of(attachment integer) returns motive.shape
    language sql stable strict parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select a.id, a.target::text, c.relowner, quote_ident(a.text_column), r.motive, r.confidence, r.motives, r.model, r.hash,
           k.match, k.key_list, k.key_values, k.key_of_t, k.key_of_n, k.keys_of_n, k.same_row, k.first_key,
           k.columns || ', ' || quote_literal(a.text_column), k.column_count + 1,
           case when k.plain then '' else
               ' set datestyle to ''ISO'' set timezone to ''UTC'' set intervalstyle to ''postgres'''
               ' set extra_float_digits to 1 set bytea_output to ''hex''' end,
           -- What inline annotation could not do has no hash.
           'n.' || case a.mode when 'inline' then r.hash || ' is null and n.' else '' end || quote_ident(a.text_column) || ' is not null'
    from motive.attachment as a
    join pg_class as c on c.oid = a.target
    cross join lateral (
        select max(quote_ident(n.name)) filter (where n.role = 'motive') as motive,
               max(quote_ident(n.name)) filter (where n.role = 'confidence') as confidence,
               max(quote_ident(n.name)) filter (where n.role = 'motives') as motives,
               max(quote_ident(n.name)) filter (where n.role = 'model') as model,
               max(quote_ident(n.name)) filter (where n.role = 'hash') as hash
        from motive.annotation_columns(a.prefix) as n
    ) as r
    cross join lateral (
        select string_agg(format('t.%1$I = (g.key ->> %2$s)::%3$s', p.name, p.n - 1, p.type), ' and ' order by p.n) as match,
               string_agg(format('t.%I', p.name), ', ' order by p.n) as key_list,
               string_agg(format('(after ->> %s)::%s', p.n - 1, p.type), ', ' order by p.n) as key_values,
               -- Output functions, never casts: a cast of a user's type is the user's code.
               'jsonb_build_array(' || string_agg(format(case when p.plain then 't.%I::text' else 'format(''%%s'', t.%I)' end, p.name), ', ' order by p.n) || ')' as key_of_t,
               'jsonb_build_array(' || string_agg(format(case when p.plain then 'n.%I::text' else 'format(''%%s'', n.%I)' end, p.name), ', ' order by p.n) || ')' as key_of_n,
               -- Digits and hyphens need no escapes, so a string is quicker than a jsonb value for each row.
               case when bool_and(p.digits) then
                   '(''['' || string_agg(''["'' || ' || string_agg(format('n.%I::text', p.name), ' || ''","'' || ' order by p.n) || ' || ''"]'', '','') || '']'')::jsonb'
               else 'jsonb_agg(jsonb_build_array(' || string_agg(format(case when p.plain then 'n.%I::text' else 'format(''%%s'', n.%I)' end, p.name), ', ' order by p.n) || '))' end as keys_of_n,
               string_agg(format(case when p.exact then 'n.%1$I = o.%1$I' else 'format(''%%s'', n.%1$I) = format(''%%s'', o.%1$I)' end, p.name), ' and ' order by p.n) as same_row,
               min(format('o.%I', p.name)) filter (where p.n = 1) as first_key,
               string_agg(quote_literal(p.name), ', ' order by p.n) as columns,
               count(*)::integer as column_count,
               bool_and(p.plain) as plain
        from (select *, row_number() over () as n from motive.key_columns(a.target)) as p
    ) as k
    where a.id = shape_of.attachment
$$;
comment on function motive.shape_of(integer) is 'What the generated functions of an attachment are made of; null where the table is gone';
revoke all on function motive.shape_of(integer) from public;

-- API: private
create function motive.generate_triggers(s motive.shape) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $generate$
begin
    -- A column that was renamed or dropped must not fail the user's statement: then nothing is enqueued, and
    -- motive.status says so.
    execute format($create$
create or replace function motive.capture_%1$s() returns trigger
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp%9$s
as $body$
begin
    if (select count(*) from pg_attribute where attrelid = tg_relid and attname in (%7$s) and not attisdropped) < %8$s then
        return null;
    end if;
    if tg_op = 'INSERT' then
        if (select count(*) from motive_new) <= 1000 then
            insert into motive.queue (attachment, keys)
            select %1$s, %10$s from motive_new as n where %6$s having count(*) > 0;
        else
            insert into motive.queue (attachment, keys)
            select %1$s, jsonb_agg(e.key)
            from (select %3$s as key, (row_number() over () - 1) / 1000 as part from motive_new as n where %6$s) as e
            group by e.part;
        end if;
    else
        insert into motive.queue (attachment, keys)
        select %1$s, jsonb_agg(e.key)
        from (select %3$s as key, (row_number() over () - 1) / 1000 as part
              from motive_new as n left join motive_old as o on %4$s
              where %6$s
                and (%5$s is null or o.%2$s is null or n.%2$s::text collate "C" <> o.%2$s::text collate "C")) as e
        group by e.part;
    end if;
    return null;
end
$body$ $create$, s.id, s.body, s.key_of_n, s.same_row, s.first_key, s.pending, s.columns, s.column_count, s.settings, s.keys_of_n);
    execute format('comment on function motive.capture_%s() is %L', s.id, 'Enqueues what a statement on ' || s.relation || ' wrote');
    execute format($create$
create or replace function motive.guard_%1$s() returns trigger
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $body$
begin
    if tg_argv[0] = 'reset' then
        new.%2$s := null; new.%3$s := null; new.%4$s := null; new.%5$s := null; new.%6$s := null;
    else
        new.%2$s := old.%2$s; new.%3$s := old.%3$s; new.%4$s := old.%4$s; new.%5$s := old.%5$s; new.%6$s := old.%6$s;
    end if;
    return new;
end
$body$ $create$, s.id, s.motive, s.confidence, s.motives, s.model, s.hash);
    execute format('comment on function motive.guard_%s() is %L', s.id, 'Keeps the annotation of ' || s.relation || ' true to its text');
    execute format('revoke all on function motive.capture_%1$s(), motive.guard_%1$s() from public', s.id);
    execute format('grant execute on function motive.capture_%1$s(), motive.guard_%1$s() to %2$s', s.id, s.owner::regrole);
end
$generate$;
comment on function motive.generate_triggers(motive.shape) is 'Writes the trigger functions of an attachment';
revoke all on function motive.generate_triggers(motive.shape) from public;

-- API: private
create function motive.generate_readers(s motive.shape) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $generate$
begin
    execute format($create$
create or replace function motive.read_%1$s(entries bigint[], keys jsonb[], model text, every boolean)
    returns table (entry bigint, key jsonb, body text, hash bytea, problem text)
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp set lock_timeout to '200ms'%8$s
as $body$
#variable_conflict use_column
begin
    if current_user::regrole::oid operator(pg_catalog.<>) %2$s::oid then
        raise exception using message = 'the reader of an attachment does not run as the table''s owner';
    end if;
    -- `offset 0` keeps the planner from computing a hash more than once.
    return query
        select e.entry, e.key, case when e.needed and not e.big then e.body end, case when e.needed then e.hash end,
               case when e.needed and e.big then format('the text has %%s bytes; the limit is 65536', octet_length(e.body)) end
        from (
            select d.entry, d.key, d.body, d.hash, octet_length(d.body) > 65536 as big,
                   d.hash is not null and (read_%1$s.every or d.known is distinct from d.hash
                       or (d.by is distinct from 'person' and d.by is distinct from coalesce(read_%1$s.model, d.by))) as needed
            from (
                select g.entry, g.key, t.%4$s::text as body, t.%7$s as known, t.%9$s as by, %6$s as hash
                from unnest(read_%1$s.entries, read_%1$s.keys) as g (entry, key)
                left join %3$s as t on %5$s
                offset 0
            ) as d
            offset 0
        ) as e;
end
$body$ $create$, s.id, s.owner, s.relation, s.body, s.match, motive.hash_expression('t.' || s.body), s.hash, s.settings, s.model);
    execute format('comment on function motive.read_%s(bigint[], jsonb[], text, boolean) is %L', s.id, 'Texts of ' || s.relation || ' by key');
    execute format($create$
create or replace function motive.scan_%1$s(after jsonb, max_rows integer, kind text, model text,
                                            out last_key jsonb, out scanned bigint, out keys jsonb, out hashes bytea[])
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp set lock_timeout to '200ms'%9$s
    -- A generic plan would read the whole index for every step.
    set plan_cache_mode to force_custom_plan
as $body$
#variable_conflict use_variable
begin
    if current_user::regrole::oid operator(pg_catalog.<>) %2$s::oid then
        raise exception using message = 'the scan of an attachment does not run as the table''s owner';
    end if;
    select (array_agg(p.key order by p.n desc))[1], count(*), jsonb_agg(p.key order by p.n) filter (where p.wanted),
           array_agg(p.hash order by p.n) filter (where p.wanted)
    into last_key, scanned, keys, hashes
    from (
        select d.n, d.key, d.hash, d.hash is not null and case scan_%1$s.kind
                   when 'shadow' then true
                   when 'reannotate' then d.by is distinct from 'person' and d.by is distinct from scan_%1$s.model
                   else d.known is distinct from d.hash end as wanted
        from (
            select row_number() over (order by %4$s) as n, %5$s as key, t.%8$s as known, t.%7$s as by, %10$s as hash
            from %3$s as t
            where scan_%1$s.after is null or (%4$s) > (%11$s)
            order by %4$s
            limit scan_%1$s.max_rows
        ) as d
        offset 0
    ) as p;
end
$body$ $create$, s.id, s.owner, s.relation, s.key_list, s.key_of_t, s.body, s.model, s.hash, s.settings,
        motive.hash_expression('t.' || s.body), s.key_values);
    execute format('comment on function motive.scan_%s(jsonb, integer, text, text) is %L', s.id, 'One step of a backfill over ' || s.relation);
    execute format($create$
create or replace function motive.said_%1$s(keys jsonb[])
    returns table (key jsonb, hash bytea, motives text[], confidence real, model text)
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp set lock_timeout to '200ms'%6$s
as $body$
#variable_conflict use_column
begin
    if current_user::regrole::oid operator(pg_catalog.<>) %2$s::oid then
        raise exception using message = 'the reader of an attachment does not run as the table''s owner';
    end if;
    return query
        select g.key, t.%7$s, t.%8$s, t.%9$s, t.%5$s
        from unnest(said_%1$s.keys) as g (key) join %3$s as t on %4$s
        where t.%7$s is not null and t.%5$s is not null;
end
$body$ $create$, s.id, s.owner, s.relation, s.match, s.model, s.settings, s.hash, s.motives, s.confidence);
    execute format('comment on function motive.said_%s(jsonb[]) is %L', s.id, 'The annotation of rows of ' || s.relation);
end
$generate$;
comment on function motive.generate_readers(motive.shape) is 'Writes the functions that read an attachment''s table';
revoke all on function motive.generate_readers(motive.shape) from public;

-- API: private
create function motive.generate_writer(s motive.shape) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $generate$
begin
    -- Rows are locked in key order and what somebody else has locked is skipped, so that no statement of a user can
    -- wait for us while we wait for it. lock_timeout lies below deadlock_timeout: should a user's own trigger wait for
    -- something, we give up before PostgreSQL looks for a victim. The rows, once locked and found unchanged, stay so
    -- until the end of the transaction: the update need not look again.
    execute format($create$
create or replace function motive.write_%1$s(results motive.result[], model text, abstention text, out written jsonb[], out back jsonb[])
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp set lock_timeout to '100ms'%9$s
as $body$
#variable_conflict use_variable
declare
    places integer[];
begin
    if current_user::regrole::oid operator(pg_catalog.<>) %2$s::oid then
        raise exception using message = 'the writer of an attachment does not run as the table''s owner';
    end if;
    -- By the primary key, row after row: joined otherwise, the hash of every row of the table would be computed.
    perform set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);
    select array_agg(h.place) into places
    from (
        select g.place
        from (select r.k as key, r.h as hash, r.place from unnest(results) with ordinality as r (e, k, h, m, c, x, f, place)) as g
        join %3$s as t on %5$s
        where g.hash = %6$s
          and (t.%7$s is distinct from g.hash
               or (t.%8$s is distinct from 'person' and t.%8$s is distinct from write_%1$s.model))
        order by %4$s
        for no key update of t skip locked
    ) as h;
    perform set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true);
    perform set_config('motive.writing', 'on', true);
    with done as (
        update %3$s as t
        set %10$s = coalesce(g.motives[1], abstention), %11$s = g.confidence, %12$s = g.motives,
            %8$s = write_%1$s.model, %7$s = g.hash
        from (
            select r.k as key, r.h as hash, r.m as motives, r.c as confidence
            from unnest(results) with ordinality as r (e, k, h, m, c, x, f, place)
            where r.place in (select p.place from unnest(places) as p (place))
            offset 0
        ) as g
        where %5$s
        returning g.key
    )
    select coalesce(array_agg(d.key), '{}') into written from done as d;
    perform set_config('motive.writing', '', true);
    if cardinality(written) < cardinality(results) then
        -- Not written: gone, without text, already right, or (these alone come back) locked or changed meanwhile.
        select array_agg(g.key) into back
        from (select r.k as key from unnest(results) as r (e, k, h, m, c, x, f)) as g
        join %3$s as t on %5$s
        where t.%13$s is not null
          and (t.%7$s is distinct from %6$s
               or (t.%8$s is distinct from 'person' and t.%8$s is distinct from write_%1$s.model));
    end if;
end
$body$ $create$, s.id, s.owner, s.relation, s.key_list, s.match, motive.hash_expression('t.' || s.body), s.hash, s.model,
        s.settings, s.motive, s.confidence, s.motives, s.body);
    execute format('comment on function motive.write_%s(motive.result[], text, text) is %L', s.id, 'Writes annotations into ' || s.relation);
end
$generate$;
comment on function motive.generate_writer(motive.shape) is 'Writes the function that writes into an attachment''s table';
revoke all on function motive.generate_writer(motive.shape) from public;

-- Says nothing about the caller's rights because it does nothing for the caller: whatever stands in
-- motive.attachment, where only a table's owner could put it, gets the functions that follow from the catalogs.
-- API: private
create function motive.generate(attachment integer) returns void
    language plpgsql volatile strict parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    s motive.shape := motive.shape_of(attachment);
    signature text;
begin
    if s.relation is null then
        return;
    end if;
    perform pg_advisory_xact_lock('motive.attachment'::regclass::oid::integer, attachment);
    perform motive.generate_triggers(s);
    perform motive.generate_readers(s);
    perform motive.generate_writer(s);
    perform motive.generate_inline(s);
    foreach signature in array array[
        format('motive.read_%s(bigint[], jsonb[], text, boolean)', s.id),
        format('motive.scan_%s(jsonb, integer, text, text)', s.id),
        format('motive.write_%s(motive.result[], text, text)', s.id),
        format('motive.said_%s(jsonb[])', s.id)]
    loop
        execute format('alter function %s owner to %s', signature, s.owner::regrole);
        execute format('revoke all on function %s from public', signature);
        execute format('grant execute on function %s to %s', signature, current_user::regrole);
    end loop;
    update motive.attachment as a set generated_for = md5(s::text) where a.id = s.id;
end
$$;
comment on function motive.generate(integer) is 'Writes the functions of an attachment anew, as the catalogs are now';
revoke all on function motive.generate(integer) from public;
