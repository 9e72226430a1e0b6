-- What a worker does, callable from psql as well: claim, read, then complete, release or extend. The database's clock
-- alone counts, and the lease, a fresh uuid for each claim, is the fence: whoever comes late finds another one.

-- API: private
create function motive.claim(max_rows integer default 1000, lease interval default '60 s', shadow text default null,
                             background boolean default true)
    returns table (claimed uuid, entries integer, rows integer)
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
    -- A queue swings between empty and full faster than its statistics: the index gives the order, always.
    set enable_seqscan to off set enable_bitmapscan to off set enable_sort to off set jit to off
as $$
declare
    moment constant timestamptz := clock_timestamp();
    a integer[];
    mine constant uuid := gen_random_uuid();
    ids bigint[] := '{}';
    allowed integer := max_rows;
    taken integer := 0;
    share integer;
    urgency smallint;
    waiting refcursor;
    e record;
begin
    if max_rows < 1 or lease <= interval '0' then
        raise exception using errcode = 'invalid_parameter_value', message = 'max_rows and lease must be above 0';
    end if;
    foreach urgency in array (case when shadow is not null then array[3] when background then array[1, 2] else array[1] end)::smallint[] loop
        -- New rows never wait for backfilled ones in one claim; these gain from more texts to choose batches from.
        exit when taken > 0;
        allowed := case urgency when 1 then max_rows else greatest(max_rows, least(16 * max_rows, 2000)) end;
        -- One owner's tables at a time, whoever's turn it is: what their triggers and policies do to a transaction, they
        -- do to nobody else's rows.
        for a in
            select array_agg(t.id order by random()) from motive.attachment as t left join pg_class as c on c.oid = t.target
            group by c.relowner order by random()
        loop
            exit when taken > 0;
            for i in 1 .. cardinality(a) loop
                exit when taken >= allowed;
                -- An equal part for each table that is still to come, in an order drawn anew each time: none starves.
                share := taken + greatest(1, (allowed - taken) / (cardinality(a) - i + 1));
                -- One by one: a plain loop would lock ahead entries that other workers could have.
                open waiting no scroll for
                    select q.id, coalesce(cardinality(q.numbers), jsonb_array_length(q.keys)) as keys from motive.queue as q
                    where q.attachment = a[i] and q.priority = urgency and q.ready_at <= moment
                      and q.shadow is not distinct from claim.shadow
                    order by q.ready_at
                    for update skip locked;
                while taken < share loop
                    fetch waiting into e;
                    exit when not found or (taken > 0 and taken + e.keys > allowed);
                    ids := ids || e.id;
                    taken := taken + e.keys;
                end loop;
                close waiting;
            end loop;
        end loop;
    end loop;
    if taken > 0 then
        -- Nothing is lost with such a commit: a server that crashes forgets the claim, and the rows wait as before.
        perform set_config('synchronous_commit', 'off', true);
        update motive.queue as q
        set lease = mine, ready_at = clock_timestamp() + claim.lease, numbers = null,
            keys = coalesce(q.keys, ('[["' || array_to_string(q.numbers, '"],["') || '"]]')::jsonb)
        where q.id = any (ids);
        return query select mine, cardinality(ids), taken;
    end if;
end
$$;
comment on function motive.claim(integer, interval, text, boolean) is
    'Takes entries of at most about max_rows new rows, or of many more to backfill, for the time of the lease; no row where nothing is waiting';
revoke all on function motive.claim(integer, interval, text, boolean) from public;

-- A key for which there is nothing to do comes back without text: complete() is told of it like of the others.
-- API: private
create function motive.read(lease uuid, model text default null)
    returns table (entry bigint, key jsonb, body text, hash bytea, problem text, priority smallint)
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    encoding constant text := current_setting('client_encoding');
    a record;
    rule text;
begin
    for a in
        select q.attachment, q.priority, array_agg(q.id) as entries, array_agg(k.key) as keys, min(q.shadow) as shadow
        from motive.queue as q cross join lateral jsonb_array_elements(q.keys) as k (key)
        where q.lease = read.lease
        group by q.attachment, q.priority
    loop
        begin
            return query execute format('select r.*, $5 from motive.read_%s($1, $2, $3, $4) as r', a.attachment)
                using a.entries, a.keys, read.model, a.shadow is not null, a.priority;
            -- An owner's code may have set another path for the session: nothing may be looked up there with our rights.
            if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) 'pg_catalog, pg_temp' then
                perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);
            end if;
        exception
            when lock_not_available then
                null; -- not mentioned to complete(), so waiting again
            when others or assert_failure then
                get stacked diagnostics rule = constraint_name;
                if not motive.repair(a.attachment) then
                    return query
                        select e.entry, e.key, null::text, null::bytea, 'the row cannot be read: ' || motive.refusal(sqlstate, rule), a.priority
                        from unnest(a.entries, a.keys) as e (entry, key);
                end if;
        end;
    end loop;
    -- A policy may have set another, in which not every text can be sent.
    if current_setting('client_encoding') <> encoding then
        perform set_config('client_encoding', encoding, true);
    end if;
end
$$;
comment on function motive.read(uuid, text) is
    'The texts of what a lease holds; null where the row is gone, has no text, or is annotated for this text and model';
revoke all on function motive.read(uuid, text) from public;

-- A table that was renamed, moved or given to another owner needs its functions written anew. What cannot be read even
-- then is let go: its entries are removed, and motive.status shows what stands in the way.
-- API: private
create function motive.repair(attachment integer) returns boolean
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
begin
    if motive.obstacle(attachment) is not null then
        delete from motive.queue as q where q.attachment = repair.attachment;
        return true;
    end if;
    if exists (select from motive.attachment as a where a.id = repair.attachment
               and a.generated_for = motive.digest(motive.shape_of(a.id))) then
        return false;
    end if;
    return motive.renew(attachment);
end
$$;
comment on function motive.repair(integer) is
    'Whether an error came from a change of the attached table: then its functions are new, or its entries are gone';
revoke all on function motive.repair(integer) from public;

-- One table whose functions cannot be written must not stop what is done for the others. Where somebody else holds the
-- lock under which they are written, he writes them, or means harm and harms himself: nobody waits for him.
-- API: private
create function motive.renew(attachment integer) returns boolean
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    if pg_try_advisory_xact_lock('motive.attachment'::regclass::oid::integer, attachment) then
        perform motive.generate(attachment);
    end if;
    return true;
exception when others or assert_failure then
    raise warning using
        message = format('the functions of attachment %s, of %s, cannot be written anew: %s (%s)', attachment,
                         (select a.target from motive.attachment as a where a.id = renew.attachment), sqlerrm, sqlstate),
        hint = 'Attach the table again to see the error as its owner would.';
    return false;
end
$$;
comment on function motive.renew(integer) is 'Writes the functions of an attachment anew; false, with a warning, where that fails';
revoke all on function motive.renew(integer) from public;

-- API: private
create function motive.obstacle(attachment integer) returns text
    language sql stable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select case
        when a.id is null then 'it is detached'
        when c.oid is null then 'the table is gone'
        -- Statements on the partitioned table fire its own triggers only.
        when c.relispartition
            then format('%1$s is a partition now: motive.detach(%1$L), then motive.attach(%2$L, %3$L)', a.target, pg_partition_root(a.target), a.text_column)
        when not exists (select from pg_attribute as t where t.attrelid = a.target and t.attname = a.text_column and not t.attisdropped)
            then format('column %I is gone: attach the one in its place, motive.attach(%L, ''...'', prefix => %L), and backfill; or detach', a.text_column, a.target, a.prefix)
        when not exists (select from pg_attribute as t where t.attrelid = a.target and t.attname = a.text_column and motive.holds_text(t.atttypid))
            then format('column %I holds no text any more: give it its type back, or detach', a.text_column)
        when not pg_has_role(n.nspowner, c.relowner, 'MEMBER')
            then format('the table belongs to %s: grant %s to %s, who installed pg_motive', c.relowner::regrole, c.relowner::regrole, n.nspowner::regrole)
        -- Membership alone is not enough: functions are replaced with the owner's rights, and given to the owner by one
        -- who may become the owner.
        when not (pg_has_role(n.nspowner, c.relowner, 'USAGE') and pg_has_role(n.nspowner, c.relowner, case
                when current_setting('server_version_num')::integer < 160000 then 'MEMBER' else 'SET' end))
            then format(case when current_setting('server_version_num')::integer < 160000
                then 'the table belongs to %1$s, whose rights %2$s, who installed pg_motive, does not inherit: alter role %2$s inherit'
                else 'the table belongs to %1$s: grant %1$s to %2$s with inherit true, set true; %2$s installed pg_motive' end,
                c.relowner::regrole, n.nspowner::regrole)
        when not exists (select from motive.key_columns(a.target)) then 'the primary key is gone: add it again'
        when exists (select from motive.annotation_columns(a.prefix) as n where not exists (
                select from pg_attribute as t where t.attrelid = a.target and t.attname = n.name and not t.attisdropped))
            then 'a column of the annotation is gone: attach again'
    end
    from (select obstacle.attachment as id) as asked
    left join motive.attachment as a on a.id = asked.id
    left join pg_class as c on c.oid = a.target
    join pg_namespace as n on n.nspname = 'motive'
$$;
comment on function motive.obstacle(integer) is 'Why an attached column cannot be annotated; null where it can';
revoke all on function motive.obstacle(integer) from public;

-- A table's owner may have changed it since: what reads its annotation with other rights than the owner's must know
-- that no cast or view of the owner's is run. By name, as that is what is read next: what stands there is held.
-- API: private
create function motive.held_as_made(attachment integer) returns boolean
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    a constant motive.attachment := (select t from motive.attachment as t where t.id = held_as_made.attachment);
    name constant text := a.target::text;
begin
    execute format('lock table %s in access share mode', name);
    return to_regclass(name) is not distinct from a.target
        and exists (select from pg_class as c where c.oid = a.target and c.relkind in ('r', 'p'))
        and not exists (
            select from motive.annotation_columns(a.prefix) as n where not exists (
                select from pg_attribute as t
                where t.attrelid = a.target and t.attname = n.name and t.atttypid = n.type::regtype and not t.attisdropped));
end
$$;
comment on function motive.held_as_made(integer) is
    'Whether an attached table is one, with an annotation of the types that attach gave it; it stays so until the transaction ends';
revoke all on function motive.held_as_made(integer) from public;

-- API: private
create function motive.extend(lease uuid, by interval default '60 s') returns integer
    language sql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
    with held as (
        select q.id from motive.queue as q where q.lease = extend.lease order by q.id for update
    ), longer as (
        update motive.queue as q set ready_at = clock_timestamp() + by from held as h where q.id = h.id returning 1
    )
    select count(*)::integer from longer
$$;
comment on function motive.extend(uuid, interval) is 'Prolongs a lease; returns how many entries it still holds';
revoke all on function motive.extend(uuid, interval) from public;

-- API: private
create function motive.release(lease uuid, delay interval default '0') returns integer
    language sql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
    with held as (
        select q.id from motive.queue as q where q.lease = release.lease order by q.id for update
    ), freed as (
        update motive.queue as q set lease = null, ready_at = clock_timestamp() + delay from held as h where q.id = h.id returning 1
    )
    select count(*)::integer from freed
$$;
comment on function motive.release(uuid, interval) is 'Gives back what a lease holds, at no cost to any row';
revoke all on function motive.release(uuid, interval) from public;

-- For tables whose triggers or policies take longer than a statement may: they must not take one worker after the other.
-- API: private
create function motive.put_off(lease uuid, delay interval) returns text
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    slow constant integer[] := array(select distinct q.attachment from motive.queue as q where q.lease = put_off.lease);
begin
    with waiting as (
        select q.id from motive.queue as q
        where q.attachment = any (slow)
          and (q.lease = put_off.lease or (q.lease is null and q.ready_at < clock_timestamp() + delay))
        order by q.id for update skip locked
    )
    update motive.queue as q set lease = null, ready_at = clock_timestamp() + delay from waiting as w where q.id = w.id;
    return (select string_agg(a.target::text, ', ' order by a.target::text) from motive.attachment as a where a.id = any (slow));
end
$$;
comment on function motive.put_off(uuid, interval) is
    'Gives back what a lease holds, and has all that waits of the same tables wait for so long; returns the tables';
revoke all on function motive.put_off(uuid, interval) from public;
