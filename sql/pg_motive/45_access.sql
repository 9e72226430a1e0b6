-- The functions that run SQL on a user's table, SECURITY DEFINER and owned by the table's owner. All are made here, so
-- that each begins and ends the same way.

-- An error's own message may quote a text of the table, and is never kept.
-- API: private
create function motive.refusal(code text, rule text default '') returns text
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select case code
        when '09000' then 'it ignores the update without an error; mend its update trigger or policy, then motive.retry()'
        when '24000' then 'its triggers or policies leave a cursor behind'
        when '54000' then 'its deferred triggers come to no end'
        when '55000' then 'beside its deferrable constraints annotation needs track_counts'
        else format('error %s%s; update the row yourself to see it', code, coalesce(' of ' || nullif(quote_ident(rule), '""'), ''))
    end
$$;
comment on function motive.refusal(text, text) is 'Why a table refuses a row, by SQLSTATE and constraint';
revoke all on function motive.refusal(text, text) from public;

-- Up to PostgreSQL 17 a deferred trigger fires at the commit as whoever commits, here the worker: a table's owner would
-- gain its rights. So they fire before the function returns, again and again should they defer more; a turn in which no
-- row was written deferred nothing. A deferred trigger that refuses a row is then this row's fault as well, instead of
-- failing the commit of all others. A cursor that is held beyond the transaction is computed at the commit, too, and as
-- whoever commits: there must be none that this statement began. Whatever fires may have set another search path, in which
-- none of these names may be looked up.
-- API: private
create function motive.settling() returns text
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$ select format($body$
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    if exists (select from pg_trigger as u where u.tgdeferrable) then
        declare
            -- Blocks, not rows: to write one fetches one, and no statement turns this counter back.
            activity constant text := 'select string_agg(format(''%%s %%s'', u.oid, pg_stat_get_xact_blocks_fetched(u.oid)), '','' order by u.oid) '
                'from pg_class as u where u.relkind = ''r'' and u.relnamespace <> ''pg_catalog''::regnamespace and pg_stat_get_xact_blocks_fetched(u.oid) > 0';
            activity_before text;
            activity_after text;
        begin
            if not current_setting('track_counts')::boolean then
                raise exception using errcode = '55000', message = %1$L;
            end if;
            execute activity into activity_after;
            for turn in 1 .. 5 loop
                activity_before := activity_after;
                set constraints all immediate;
                perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
                execute activity into activity_after;
                exit when activity_after is not distinct from activity_before;
                if turn = 5 then
                    raise exception using errcode = '54000', message = %2$L;
                end if;
            end loop;
        end;
    end if;
    if exists (select from pg_cursors as c where c.is_holdable and c.creation_time >= statement_timestamp()) then
        raise exception using errcode = '24000', message = %3$L;
    end if;$body$, motive.refusal('55000'), motive.refusal('54000'), motive.refusal('24000')) $$;
comment on function motive.settling() is
    'The end of each function that runs SQL on a user''s table: what the commit would run as the worker runs, or is refused, as the table''s owner';
revoke all on function motive.settling() from public;

-- The function belongs to the table's owner, who may ALTER it: to run as its caller, to another search path, to another
-- owner. Then it must do nothing at all, and before it knows that, nothing that it calls may depend on the search path.
-- API: private
create function motive.create_access(s motive.shape, name text, arguments text, returns text, settings text,
                                     declarations text, body text, purpose text) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $generate$
declare
    whole text := format($body$
%1$s
begin
    if not exists (
        select from pg_catalog.pg_roles as r
        where r.rolname operator(pg_catalog.=) current_user and r.oid operator(pg_catalog.=) %2$s::pg_catalog.oid
    ) then
        raise exception using message = 'a function of the attachment does not run as the table''s owner';
    end if;
%3$s
%4$s
end$body$, declarations, s.owner, body, motive.settling());
    lent constant boolean := not has_schema_privilege(s.owner, 'motive', 'CREATE')
        and not (select r.rolsuper from pg_roles as r where r.rolname = current_user);
begin
    execute format('create or replace function motive.%s_%s(%s)%s language plpgsql volatile parallel unsafe security definer '
        'set search_path to pg_catalog, pg_temp %s%s as %L', name, s.id, arguments, returns, settings, s.settings, whole);
    execute format('comment on function motive.%s_%s is %L', name, s.id, purpose || ' ' || s.relation);
    -- An ordinary role can give a function away only to somebody who could have made it in this schema.
    if lent then
        execute format('grant create on schema motive to %s', s.owner::regrole);
    end if;
    execute format('alter function motive.%s_%s owner to %s', name, s.id, s.owner::regrole);
    if lent then
        execute format('revoke create on schema motive from %s', s.owner::regrole);
    end if;
    perform motive.revoke_everything(format('motive.%s_%s', name, s.id)::regproc);
    execute format('grant execute on function motive.%s_%s to %s', name, s.id, quote_ident(current_user));
end
$generate$;
comment on function motive.create_access(motive.shape, text, text, text, text, text, text, text) is
    'Makes one of the functions that run SQL on a user''s table';
revoke all on function motive.create_access(motive.shape, text, text, text, text, text, text, text) from public;

-- A column of the annotation that was dropped, and added by another attach, is empty: then the row is asked for anew.
-- API: private
create function motive.known_expression(s motive.shape) returns text
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select format('case when num_nulls(t.%s, t.%s, t.%s, t.%s) = 0 then t.%s end', s.motive, s.confidence, s.motives, s.model, s.hash)
$$;
comment on function motive.known_expression(motive.shape) is 'SQL for the hash of the text that a row of t is annotated for; null where a part is missing';
revoke all on function motive.known_expression(motive.shape) from public;

-- API: private
create function motive.generate_readers(s motive.shape) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $generate$
declare
    hash constant text := motive.hash_expression('t.' || s.body);
    known constant text := motive.known_expression(s);
begin
    perform motive.create_access(s, 'read', 'entries bigint[], keys jsonb[], model text, every boolean',
        ' returns table (entry bigint, key jsonb, body text, hash bytea, problem text)', 'set lock_timeout to ''200ms''',
        '#variable_conflict use_column', format($body$
    -- `offset 0` keeps the planner from computing a hash more than once.
    return query
        select e.entry, e.key, case when e.needed and not e.big then e.body end, case when e.needed then e.hash end,
               case when e.needed and e.big then format('the text has %%s bytes; the limit is 65536', octet_length(e.body)) end
        from (
            select d.entry, d.key, d.body, d.hash, octet_length(d.body) > 65536 as big,
                   d.hash is not null and (read_%1$s.every or d.known is distinct from d.hash
                       or (d.by is distinct from 'person' and d.by is distinct from coalesce(read_%1$s.model, d.by))) as needed
            from (
                select g.entry, g.key, t.%3$s::text as body, %6$s as known, t.%7$s as by, %5$s as hash
                from unnest(read_%1$s.entries, read_%1$s.keys) as g (entry, key)
                left join %2$s as t on %4$s
                offset 0
            ) as d
            offset 0
        ) as e;$body$, s.id, s.relation, s.body, s.match, hash, known, s.model), 'Texts by key, of');
    perform motive.create_access(s, 'scan', 'after jsonb, max_rows integer, kind text, model text, '
        'out last_key jsonb, out scanned bigint, out keys jsonb, out hashes bytea[]', '',
        -- A generic plan would read the whole index for every step.
        'set lock_timeout to ''200ms'' set plan_cache_mode to force_custom_plan', '#variable_conflict use_variable', format($body$
    select (array_agg(p.key order by p.n desc))[1], count(*), jsonb_agg(p.key order by p.n) filter (where p.wanted),
           array_agg(p.hash order by p.n) filter (where p.wanted)
    into last_key, scanned, keys, hashes
    from (
        select d.n, d.key, d.hash, d.hash is not null and case scan_%1$s.kind
                   when 'shadow' then true
                   when 'reannotate' then d.by is distinct from 'person' and d.by is distinct from scan_%1$s.model
                   else d.known is distinct from d.hash end as wanted
        from (
            select row_number() over (order by %3$s) as n, %4$s as key, %5$s as known, t.%6$s as by, %7$s as hash
            from %2$s as t
            where scan_%1$s.after is null or (%8$s)
            order by %3$s
            limit scan_%1$s.max_rows
        ) as d
        offset 0
    ) as p;$body$, s.id, s.relation, s.key_list, s.key_of_t, known, s.model, hash, s.key_after), 'One step of a backfill over');
    perform motive.create_access(s, 'said', 'keys jsonb[]',
        ' returns table (key jsonb, hash bytea, motives text[], confidence real, model text)', 'set lock_timeout to ''200ms''',
        '#variable_conflict use_column', format($body$
    if said_%1$s.keys is null then
        -- Both ends of the key: a backfill begins at one, and new rows mostly stand at the other.
        return query
            select null::jsonb, t.%4$s, t.%5$s, t.%6$s, t.%7$s
            from ((select t.%4$s, t.%5$s, t.%6$s, t.%7$s from %2$s as t order by %8$s limit 5000) union all
                  (select t.%4$s, t.%5$s, t.%6$s, t.%7$s from %2$s as t order by %9$s limit 5000)) as t
            where t.%4$s is not null and t.%7$s is not null;
        return;
    end if;
    return query
        select g.key, t.%4$s, t.%5$s, t.%6$s, t.%7$s
        from unnest(said_%1$s.keys) as g (key) join %2$s as t on %3$s
        where t.%4$s is not null and t.%7$s is not null;$body$,
        s.id, s.relation, s.match, s.hash, s.motives, s.confidence, s.model, s.key_list, s.key_list_down),
        'The annotation, by key, or of the first and last rows without keys, of');
end
$generate$;
comment on function motive.generate_readers(motive.shape) is 'Writes the functions that read an attachment''s table';
revoke all on function motive.generate_readers(motive.shape) from public;

-- Rows are locked in key order and what somebody else has locked is skipped, so that no statement of a user can wait for
-- us while we wait for it. lock_timeout lies below deadlock_timeout: should a user's own trigger wait for something, we
-- give up before PostgreSQL looks for a victim. The rows, once locked and found unchanged, stay so until the end of the
-- transaction: the update need not look again. A table that swallows the update without an error, by a trigger or by a
-- policy, must not have its rows asked for for ever: it raises here. A person's label with a part missing is made whole
-- from what is left of it, not by the model.
-- API: private
create function motive.generate_writer(s motive.shape) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $generate$
declare
    of_person constant text := format(
        '(t.%s = ''person'' and t.%s = g.hash and num_nonnulls(t.%s, t.%s) > 0)', s.model, s.hash, s.motive, s.motives);
begin
    perform motive.create_access(s, 'write', 'results motive.result[], model text, abstention text, out written jsonb[], out back jsonb[]',
        '', 'set lock_timeout to ''100ms''', '#variable_conflict use_variable
declare
    places integer[];
    swallowed boolean;
    candidate pg_catalog.jsonb;', format($body$
    -- By the primary key, row after row: joined otherwise, the hash of every row of the table would be computed.
    perform set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);
    select array_agg(h.place) into places
    from (
        select g.place
        from (select r.k as key, r.h as hash, r.place from unnest(results) with ordinality as r (e, k, h, m, c, x, f, place)) as g
        join %2$s as t on %4$s
        where g.hash = %5$s
          and (%12$s is distinct from g.hash
               or (t.%7$s is distinct from 'person' and t.%7$s is distinct from write_%1$s.model))
        order by %3$s
        for no key update of t skip locked
    ) as h;
    perform set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true);
    perform set_config('motive.writing', 'on', true);
    with done as (
        update %2$s as t
        set %8$s = case when %13$s then coalesce(t.%8$s, t.%10$s[1], abstention) else coalesce(g.motives[1], abstention) end,
            %9$s = case when %13$s then 1 else g.confidence end,
            %10$s = case when %13$s then coalesce(t.%10$s, array_remove(array[t.%8$s], abstention)) else g.motives end,
            %7$s = case when %13$s then 'person' else write_%1$s.model end, %6$s = g.hash
        from (
            select r.k as key, r.h as hash, r.m as motives, r.c as confidence
            from unnest(results) with ordinality as r (e, k, h, m, c, x, f, place)
            where r.place in (select p.place from unnest(places) as p (place))
            offset 0
        ) as g
        where %4$s
        returning g.key, t.%6$s is not distinct from g.hash as kept
    )
    select coalesce(array_agg(d.key) filter (where d.kept), '{}') into written from done as d;
    perform set_config('motive.writing', '', true);
    if cardinality(written) < cardinality(results) then
        -- Not written: gone, without text, already right, or (these alone come back) locked or changed meanwhile.
        select coalesce(array_agg(g.key), '{}'), bool_or(g.place = any (places) and g.hash = %5$s) into back, swallowed
        from (select r.k as key, r.h as hash, r.place from unnest(results) with ordinality as r (e, k, h, m, c, x, f, place)) as g
        join %2$s as t on %4$s
        where t.%11$s is not null
          and (%12$s is distinct from %5$s
               or (t.%7$s is distinct from 'person' and t.%7$s is distinct from write_%1$s.model));
        -- A row that a policy hides from updates looks like a locked one; asked for without waiting, a locked one raises.
        if row_security_active(%2$L::regclass) then
            foreach candidate in array back loop
                begin
                    perform from (select candidate as key) as g join %2$s as t on %4$s for no key update of t nowait;
                    swallowed := swallowed or not found;
                exception when lock_not_available then
                    null;
                end;
            end loop;
        end if;
        if swallowed then
            raise exception using errcode = 'triggered_action_exception',
                message = %14$L;
        end if;
    end if;$body$, s.id, s.relation, s.key_list, s.match, motive.hash_expression('t.' || s.body), s.hash, s.model,
        s.motive, s.confidence, s.motives, s.body, motive.known_expression(s), of_person, motive.refusal('09000')), 'Writes annotations into');
end
$generate$;
comment on function motive.generate_writer(motive.shape) is 'Writes the function that writes into an attachment''s table';
revoke all on function motive.generate_writer(motive.shape) from public;

-- API: private
create function motive.digest(s motive.shape) returns text
    language sql stable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select md5(s::text || string_agg(p.prosrc, '' order by p.proname))
    from pg_proc as p
    where p.pronamespace = 'motive'::regnamespace
      and (p.proname in ('capture_statements', 'changed_rows', 'create_access', 'hash_expression', 'known_expression', 'settling') or p.proname like 'generate\_%')
$$;
comment on function motive.digest(motive.shape) is
    'What the functions of an attachment are made from: the table as it is, and this version of pg_motive';
revoke all on function motive.digest(motive.shape) from public;

-- Says nothing about the caller's rights because it does nothing for the caller: whatever stands in
-- motive.attachment, where only a table's owner could put it, gets the functions that follow from the catalogs.
-- API: private
create function motive.generate(attachment integer) returns void
    language plpgsql volatile strict parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    s motive.shape := motive.shape_of(attachment);
begin
    if s.relation is null or motive.obstacle(attachment) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock('motive.attachment'::regclass::oid::integer, attachment);
    perform motive.generate_capture(s);
    perform motive.generate_guard(s);
    perform motive.generate_readers(s);
    perform motive.generate_writer(s);
    perform motive.generate_inline(s);
    update motive.attachment as a set generated_for = motive.digest(s) where a.id = s.id;
end
$$;
comment on function motive.generate(integer) is 'Writes the functions of an attachment anew, as the catalogs are now';
revoke all on function motive.generate(integer) from public;
