-- API: private
create function motive.write_results(attachment integer, results motive.result[], model text, abstention text,
                                     out written jsonb[], out back jsonb[], out failed motive.result[])
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    total constant integer := cardinality(results);
    part record;
    half integer;
    rule text;
begin
    execute format('select w.written, w.back from motive.write_%s($1, $2, $3) as w', attachment)
        into written, back using results, model, abstention;
    -- An owner's code may have set another path for the session: nothing may be looked up there with our rights.
    if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) 'pg_catalog, pg_temp' then
        perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);
    end if;
exception
    when lock_not_available or deadlock_detected or serialization_failure then
        -- Somebody else's turn: no fault of these rows.
        back := array(select r.k from unnest(results) as r);
    when others or assert_failure then
        get stacked diagnostics rule = constraint_name;
        if motive.repair(attachment) then
            back := array(select r.k from unnest(results) as r);
        elsif total = 1 then
            failed := array(
                select row(r.e, r.k, r.h, null, null, 'the table refuses the row: ' || motive.refusal(sqlstate, rule), false)::motive.result
                from unnest(results) as r);
        else
            -- A trigger or a constraint of the table refuses a row: find out which, and let the others through.
            for half in 0 .. 1 loop
                part := motive.write_results(
                    attachment, case half when 0 then results[:total / 2] else results[total / 2 + 1:] end, model, abstention);
                written := written || part.written;
                back := back || part.back;
                failed := failed || part.failed;
            end loop;
        end if;
end
$$;
comment on function motive.write_results(integer, motive.result[], text, text) is
    'Writes results into one table: the keys written, those to come back, and those that the table refuses';
revoke all on function motive.write_results(integer, motive.result[], text, text) from public;

-- API: private
create function motive.check_labels(results motive.result[], model text) returns text
    language plpgsql stable parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    codes text[];
    abstention text;
    stranger text;
begin
    select array_agg(t.code), min(t.code) filter (where t.abstention) into codes, abstention
    from motive.models as m join motive.taxonomies as t on t.digest = m.taxonomy_digest
    where m.model = check_labels.model;
    if codes is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('model %L is not known to this database', left(model, 200)),
            hint = 'Load it: select motive.load_model(); or let the worker register it.';
    end if;
    select quote_literal(left(l.label, 63)) into stranger
    from (select distinct m.label from unnest(results) as r cross join lateral unnest(r.m) as m (label)) as l
    where l.label <> all (codes) or l.label = abstention or l.label is null limit 1;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('%s is not a motive of the taxonomy of model %s', coalesce(stranger, 'NULL'), model),
            hint = 'Export the model again from the taxonomy it was trained for.';
    end if;
    return abstention;
end
$$;
comment on function motive.check_labels(motive.result[], text) is
    'Refuses labels that the model''s taxonomy does not hold; gives its abstention code';
revoke all on function motive.check_labels(motive.result[], text) from public;

-- A key that is at fault itself leaves its entry and waits in one of its own, or is retired.
-- API: private
create function motive.set_aside(attachment integer, faults motive.result[], priority smallint, attempts smallint,
                                 enqueued_at timestamptz, shadow text) returns void
    language sql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
    with fault as (
        select f.k as key, f.h as hash, left(f.x, 500) as reason,
               coalesce(f.f, false) or set_aside.attempts + 1 >= s.max_attempts as final, s.retry_delay
        from unnest(faults) as f
        cross join motive.annotation_settings as s
    ), retired as (
        insert into motive.failure as f (attachment, key, hash, reason, attempts)
        select distinct on (r.key) set_aside.attachment, r.key, coalesce(r.hash, '\x'), r.reason, set_aside.attempts + 1
        from fault as r where r.final and set_aside.shadow is null
        on conflict on constraint failure_pkey do update
            set hash = excluded.hash, reason = excluded.reason, attempts = excluded.attempts, failed_at = excluded.failed_at
    )
    insert into motive.queue (attachment, keys, priority, attempts, ready_at, enqueued_at, shadow)
    select set_aside.attachment, jsonb_build_array(r.key), set_aside.priority, set_aside.attempts + 1,
           clock_timestamp() + r.retry_delay * power(2, set_aside.attempts), set_aside.enqueued_at, set_aside.shadow
    from fault as r where not r.final
$$;
comment on function motive.set_aside(integer, motive.result[], smallint, smallint, timestamptz, text) is
    'Gives rows at fault another attempt later, or retires them with their reason';
revoke all on function motive.set_aside(integer, motive.result[], smallint, smallint, timestamptz, text) from public;

-- Takes the finished keys out of entries that a lease holds: an entry without keys is gone, any other waits again.
-- API: private
create function motive.close_entries(lease uuid, entries bigint[], finished motive.result[]) returns bigint
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    done bigint[];
    aged record;
    left_over bigint;
begin
    -- From the results to the entries, one by one through the primary key, whatever the planner believes of the table.
    select array_agg(d.entry) into done
    from (select u.e as entry, count(*) as keys from (select distinct f.e, f.k from unnest(finished) as f) as u group by u.e) as d
    cross join lateral (
        select q.keys from motive.queue as q
        where q.id = d.entry and q.lease = close_entries.lease offset 0) as q
    where d.keys >= jsonb_array_length(q.keys);
    for aged in
        with gone as (
            delete from motive.queue as q where q.id = any (done)
            returning q.attachment, q.priority, q.enqueued_at, jsonb_array_length(q.keys)::bigint as keys
        )
        select g.attachment, array_agg(clock_timestamp() - g.enqueued_at) as ages, array_agg(g.keys) as weights
        from gone as g where g.priority = 1 group by g.attachment
    loop
        perform motive.count_freshness(aged.attachment, aged.ages, aged.weights);
    end loop;
    if cardinality(done) = cardinality(entries) then
        return 0;
    end if;
    with rest as (
        update motive.queue as q
        set lease = null, ready_at = clock_timestamp() + interval '50 ms', keys = (
            select coalesce(jsonb_agg(k.key order by k.n), '[]')
            from jsonb_array_elements(q.keys) with ordinality as k (key, n)
            where k.key not in (select f.k from unnest(finished) as f where f.e = q.id))
        where q.id = any (entries) and q.lease = close_entries.lease
        returning jsonb_array_length(q.keys) as keys
    )
    select coalesce(sum(r.keys), 0) into left_over from rest as r;
    return left_over;
end
$$;
comment on function motive.close_entries(uuid, bigint[], motive.result[]) is
    'Takes finished keys out of a lease''s entries and gives the rest back; returns how many keys';
revoke all on function motive.close_entries(uuid, bigint[], motive.result[]) from public;

-- API: private
create function motive.count_freshness(attachment integer, ages interval[], weights bigint[]) returns void
    language sql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
    with said as materialized (
        select least(24, 1 + ceil(ln(greatest(1, extract(epoch from a.age)::float8 * 1000)) / ln(2::float8)))::integer as bucket,
               sum(a.weight) as rows
        from unnest(ages, weights) as a (age, weight) group by 1
    )
    insert into motive.freshness_bucket as f (attachment, minute, slot, counts)
    select count_freshness.attachment, date_trunc('minute', clock_timestamp()), (pg_backend_pid() % 8)::smallint,
           array(select coalesce((select s.rows from said as s where s.bucket = b.n), 0)::bigint
                 from generate_series(1, 24) as b (n) order by b.n)
    on conflict on constraint freshness_bucket_pkey do update
        set counts = array(select c.n + c.m from unnest(f.counts, excluded.counts) with ordinality as c (n, m, i) order by c.i)
$$;
comment on function motive.count_freshness(integer, interval[], bigint[]) is 'Adds rows to the histogram of the time from enqueue to write-back';
revoke all on function motive.count_freshness(integer, interval[], bigint[]) from public;

-- API: private
create function motive.forgive(attachment integer, keys jsonb[]) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    if exists (select from motive.failure as f where f.attachment = forgive.attachment) then
        delete from motive.failure as f where f.attachment = forgive.attachment and f.key = any (forgive.keys);
    end if;
end
$$;
comment on function motive.forgive(integer, jsonb[]) is 'Forgets the failures of rows that have been annotated after all, or need no annotation any more';
revoke all on function motive.forgive(integer, jsonb[]) from public;

-- results: an array with one object for each key that was read, {"e": entry, "k": key} and
--   "h": hash as read ("\x..."), "m": [motives, best first], "c": confidence    a result; "m": [] for abstention
--   "h": hash, "x": reason, "f": true when no further attempt can help          the row itself is at fault
--   nothing else                                                                there was nothing to do
-- A key that is not mentioned goes back at no cost: so does everything when the lease is no longer ours.
-- API: private
create function motive.complete(lease uuid, results jsonb, model text, out written bigint, out skipped bigint, out returned bigint)
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp set jit to off
as $$
declare
    given motive.result[] := array(
        select row(r.e, r.k, r.h, r.m, coalesce(r.c, 0), r.x, r.f)::motive.result
        from jsonb_to_recordset(results) as r (e bigint, k jsonb, h bytea, m text[], c real, x text, f boolean));
    abstention text := motive.check_labels(given, model);
    a record;
    outcome record;
begin
    written := 0; skipped := 0; returned := 0;
    -- Annotations and queue change in one commit: a server that crashes forgets both or neither.
    perform set_config('synchronous_commit', 'off', true);
    -- Nobody else can take these entries while we write.
    perform from motive.queue as q where q.lease = complete.lease order by q.id for update;
    if not found then
        returned := cardinality(given);
        return;
    end if;
    for a in
        select q.attachment, q.priority, q.attempts, q.shadow, min(q.enqueued_at) as enqueued_at,
               array_agg(distinct q.id) as entries,
               array_agg(r) as mentioned,
               array_agg(r) filter (where r.m is not null) as answers,
               array_agg(r) filter (where r.x is not null) as faults,
               array_agg(r.k) filter (where r.m is null and r.x is null) as settled
        from unnest(given) as r
        cross join lateral (
            select q.* from motive.queue as q
            where q.id = r.e and q.lease = complete.lease offset 0) as q
        group by q.attachment, q.priority, q.attempts, q.shadow
        order by q.attachment, q.priority, q.attempts
    loop
        if a.answers is not null then
            if a.shadow is null then
                outcome := motive.write_results(a.attachment, a.answers, model, abstention);
            else
                outcome := motive.write_shadow(a.attachment, a.answers, model, abstention);
            end if;
            a.faults := a.faults || outcome.failed;
            if cardinality(outcome.back) > 0 then
                -- Never `as f`: that is a column of theirs.
                a.mentioned := array(select r from unnest(a.mentioned) as r where r.k <> all (outcome.back));
            end if;
            written := written + coalesce(cardinality(outcome.written), 0);
            a.settled := a.settled || outcome.written;
        end if;
        if a.shadow is null then
            perform motive.forgive(a.attachment, a.settled);
        end if;
        skipped := skipped + cardinality(a.mentioned);
        if cardinality(a.faults) > 0 then
            perform motive.set_aside(a.attachment, a.faults, a.priority, a.attempts, a.enqueued_at, a.shadow);
        end if;
        returned := returned + motive.close_entries(lease, a.entries, a.mentioned);
    end loop;
    returned := returned + (
        select coalesce(sum(jsonb_array_length(q.keys)), 0) from motive.queue as q where q.lease = complete.lease);
    perform motive.release(lease);
    skipped := skipped - written;
end
$$;
comment on function motive.complete(uuid, jsonb, text) is
    'Writes what a lease has found out, if the lease and the texts are still what they were; ends the lease';
revoke all on function motive.complete(uuid, jsonb, text) from public;

-- API: private
create function motive.fail(lease uuid, entry bigint, keys jsonb, reason text) returns integer
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    e motive.queue;
    faults motive.result[];
begin
    select q.* into e from motive.queue as q where q.id = entry and q.lease = fail.lease for update;
    if not found then
        return 0;
    end if;
    faults := array(
        select row(e.id, k.key, null, null, null, reason, false)::motive.result
        from jsonb_array_elements(keys) as k (key) where e.keys @> jsonb_build_array(k.key));
    perform motive.set_aside(e.attachment, faults, e.priority, e.attempts, e.enqueued_at, e.shadow);
    update motive.queue as q
    set keys = (select coalesce(jsonb_agg(k.key), '[]') from jsonb_array_elements(q.keys) as k (key)
                where k.key not in (select f.k from unnest(faults) as f))
    where q.id = e.id;
    delete from motive.queue as q where q.id = e.id and q.keys = '[]';
    return cardinality(faults);
end
$$;
comment on function motive.fail(uuid, bigint, jsonb, text) is
    'Counts a failed attempt against some keys of an entry; the others stay claimed; returns how many';
revoke all on function motive.fail(uuid, bigint, jsonb, text) from public;
