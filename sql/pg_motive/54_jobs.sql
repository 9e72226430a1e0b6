-- Long walks over a table, in steps: each step is one short transaction that reads the next rows in the order of the
-- primary key, enqueues those that need it, and moves the cursor. A job survives whatever happens between two steps.

-- API: private
create table motive.job (
    id integer generated always as identity primary key,
    attachment integer not null,
    kind text not null check (kind in (
        'backfill',   -- rows whose hash is not that of their text: never annotated, or changed while triggers were off
        'reannotate', -- rows annotated by another model than the one that serves; waits until `model` serves
        'retry',      -- rows that were retired
        'shadow',     -- every row with text, for `model`, beside the annotation
        'promote'     -- writes what the shadow run of `model` has found
    )),
    model text,
    last_key jsonb,
    scanned bigint not null default 0,
    enqueued bigint not null default 0,
    estimate bigint,
    started_at timestamptz not null default clock_timestamp(),
    stepped_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    problem text
);
comment on table motive.job is 'Backfills and their like, with how far they have come';
comment on column motive.job.last_key is 'Primary key of the last row that was read';
comment on column motive.job.estimate is 'Rows of the table when the job began, as the planner believed';
comment on column motive.job.finished_at is 'Null while it runs';
comment on column motive.job.problem is 'What stood in the way of the last step: it is tried again, and other jobs go on';
revoke all on motive.job from public;
create index job_running on motive.job (stepped_at) where finished_at is null;
select pg_catalog.pg_extension_config_dump('motive.job', '');
select pg_catalog.pg_extension_config_dump('motive.job_id_seq', '');
alter table motive.job enable row level security;
create policy owners_write on motive.job
    using (exists (select from motive.attachment as a join pg_catalog.pg_class as c on c.oid = a.target
                   where a.id = attachment and pg_catalog.pg_has_role(c.relowner, 'USAGE')));
comment on policy owners_write on motive.job is 'Who owns the table may have it walked';

-- API: private
create function motive.start_job(target regclass, text_column name, kind text, model text default null) returns integer
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    a record;
    started integer := 0;
begin
    perform motive.check_owner(target);
    for a in
        select t.id, (select sum(greatest(c.reltuples, 0))::bigint from pg_class as c
                      where c.oid = t.target or c.oid in (select p.relid from pg_partition_tree(t.target) as p where p.isleaf)) as estimate
        from motive.attachment as t
        where t.target = start_job.target and t.text_column = coalesce(start_job.text_column, t.text_column)
    loop
        delete from motive.job as j where j.attachment = a.id and j.kind = start_job.kind;
        insert into motive.job (attachment, kind, model, estimate) values (a.id, kind, model, a.estimate);
        started := started + 1;
    end loop;
    if started = 0 then
        raise exception using
            errcode = 'undefined_object',
            message = format('%s is not attached%s', target, case when text_column is null then '' else format(' by column %I', text_column) end),
            hint = 'Attach it first; see motive.attachments.';
    end if;
    perform pg_notify('motive_control', 'work');
    return started;
end
$$;
comment on function motive.start_job(regclass, name, text, text) is 'Records a job for each attached column; the worker walks it';
revoke all on function motive.start_job(regclass, name, text, text) from public;

-- API: public
create function motive.backfill(target regclass, text_column name default null) returns integer
    language sql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$ select motive.start_job(target, text_column, 'backfill') $$;
comment on function motive.backfill(regclass, name) is
    'Has every row annotated whose annotation is missing or not that of its text; returns the number of jobs';
revoke all on function motive.backfill(regclass, name) from public;

-- API: public
create function motive.reannotate(target regclass, text_column name default null) returns integer
    language sql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$ select motive.start_job(target, text_column, 'reannotate') $$;
comment on function motive.reannotate(regclass, name) is
    'Has every row annotated anew whose model is not the one that serves now; people''s corrections stay';
revoke all on function motive.reannotate(regclass, name) from public;

-- API: public
create function motive.retry(target regclass, text_column name default null) returns integer
    language sql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$ select motive.start_job(target, text_column, 'retry') $$;
comment on function motive.retry(regclass, name) is 'Tries retired rows again';
revoke all on function motive.retry(regclass, name) from public;

-- Entries do not say which job has made them: those of backfill, reannotate, retry and promote, which are few, go once
-- none of these is left.
-- API: public
create function motive.cancel(target regclass, text_column name default null, kind text default null) returns integer
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    ended integer;
begin
    perform motive.check_owner(target);
    perform motive.check_choice('kind', kind, array['backfill', 'reannotate', 'retry', 'shadow', 'promote']);
    with gone as (
        delete from motive.job as j using motive.attachment as a
        where a.id = j.attachment and a.target = cancel.target and a.text_column = coalesce(cancel.text_column, a.text_column)
          and j.kind = coalesce(cancel.kind, j.kind)
        returning j.finished_at
    )
    select count(*) filter (where g.finished_at is null) into ended from gone as g;
    perform motive.sweep();
    return ended;
end
$$;
comment on function motive.cancel(regclass, name, text) is
    'Ends the jobs of a table, or those of one kind, with what they have enqueued; what is annotated stays; returns how many were running';
revoke all on function motive.cancel(regclass, name, text) from public;

-- API: private
create function motive.enqueue(attachment integer, keys jsonb, priority smallint, shadow text default null) returns void
    language sql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
    insert into motive.queue (attachment, keys, priority, shadow)
    select enqueue.attachment, jsonb_agg(k.key order by k.n), enqueue.priority, enqueue.shadow
    from jsonb_array_elements(keys) with ordinality as k (key, n)
    group by (k.n - 1) / 500
$$;
comment on function motive.enqueue(integer, jsonb, smallint, text) is 'Puts keys into the queue, in entries of 500';
revoke all on function motive.enqueue(integer, jsonb, smallint, text) from public;

-- API: private
create function motive.locked() returns text
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$ select 'the table is locked' $$;
comment on function motive.locked() is 'The problem of a job that needs no delay: waiting for the lock was one';
revoke all on function motive.locked() from public;

-- API: private
create function motive.next_job(model text) returns motive.job
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    chosen motive.job;
begin
    select w.* into chosen
    from motive.job as w cross join motive.annotation_settings as s
    where w.finished_at is null
      and (w.kind <> 'reannotate' or coalesce(w.model, next_job.model) = next_job.model)
      and (coalesce(w.problem, motive.locked()) = motive.locked() or w.stepped_at < clock_timestamp() - s.retry_delay)
      and (select count(*) from (
               select from motive.queue as q
               where q.attachment = w.attachment and q.priority = case w.kind when 'shadow' then 3 else 2 end
               limit s.backfill_depth) as waiting
          ) < s.backfill_depth
    -- One that was locked is tried again when no other has anything to do.
    order by w.problem is not distinct from motive.locked(), w.stepped_at limit 1
    for update of w skip locked;
    return chosen;
end
$$;
comment on function motive.next_job(text) is 'The job that has waited longest of those that have something to do, locked';
revoke all on function motive.next_job(text) from public;

-- API: private
create function motive.put_off_step(model text) returns text
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    slow constant motive.job := motive.next_job(model);
begin
    update motive.job as w set stepped_at = clock_timestamp(), problem = 'its triggers, policies or constraints take too long'
    where w.id = slow.id;
    return (select a.target::text from motive.attachment as a where a.id = slow.attachment);
end
$$;
comment on function motive.put_off_step(text) is
    'For a step that took longer than a statement may: its job waits, and says why, so that the others have their turn; returns its table';
revoke all on function motive.put_off_step(text) from public;

-- API: private
create function motive.step(max_rows integer default 2000, model text default null) returns bigint
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    j motive.job;
    rule text;
    locked constant text := motive.locked();
begin
    j := motive.next_job(model);
    if j.id is null then
        return case when step.model is null and exists (
            select from motive.job as w where w.finished_at is null and w.kind = 'reannotate') then -1 else 0 end;
    elsif motive.obstacle(j.attachment) is not null then
        delete from motive.job as w where w.id = j.id;
        return 1;
    end if;
    begin
        return case j.kind when 'promote' then motive.step_promotion(j, least(max_rows, 500)) else motive.step_walk(j, max_rows, model) end;
    exception
        when lock_not_available then
            -- Waiting for the lock has taken its time: there is no need for a delay.
            update motive.job as w set stepped_at = clock_timestamp(), problem = locked where w.id = j.id;
            return case when j.problem is distinct from locked then 1 else 0 end;
        when others or assert_failure then
            get stacked diagnostics rule = constraint_name;
            if not motive.repair(j.attachment) then
                -- The table's own triggers or policies: one table must not stop the walks over the others.
                update motive.job as w set stepped_at = clock_timestamp(), problem = motive.refusal(sqlstate, rule)
                where w.id = j.id;
            end if;
            return 1;
    end;
end
$$;
comment on function motive.step(integer, text) is
    'One step of the job that has waited longest; 0 where none has anything to do now, or all that have are still locked; -1 where one must know the model that serves';
revoke all on function motive.step(integer, text) from public;

-- API: private
create function motive.step_walk(j motive.job, max_rows integer, model text) returns bigint
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    seen record;
begin
    if j.kind = 'retry' then
        -- Each stays retired until it is annotated after all, or gone: whatever ends the job, its record is not lost.
        select (array_agg(f.key order by f.key desc))[1] as last_key, count(*) as scanned, jsonb_agg(f.key order by f.key) as keys into seen
        from (select o.key from motive.failure as o
              where o.attachment = j.attachment and (j.last_key is null or o.key > j.last_key)
              order by o.key limit max_rows) as f;
    else
        execute format('select s.last_key, s.scanned, motive.without_retired($5, $3, s.keys, s.hashes) as keys from motive.scan_%s($1, $2, $3, $4) as s', j.attachment)
            into seen using j.last_key, max_rows, j.kind, coalesce(j.model, model), j.attachment;
        -- An owner's code may have set another path for the session: nothing may be looked up there with our rights.
        if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) 'pg_catalog, pg_temp' then
            perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);
        end if;
    end if;
    perform motive.enqueue(j.attachment, seen.keys, case j.kind when 'shadow' then 3 else 2 end::smallint, case j.kind when 'shadow' then j.model end);
    update motive.job as w
    set last_key = coalesce(seen.last_key, w.last_key), scanned = w.scanned + seen.scanned, stepped_at = clock_timestamp(),
        enqueued = w.enqueued + coalesce(jsonb_array_length(seen.keys), 0), problem = null,
        finished_at = case when seen.scanned < max_rows then clock_timestamp() end
    where w.id = j.id;
    return greatest(seen.scanned, 1);
end
$$;
comment on function motive.step_walk(motive.job, integer, text) is 'Reads the next rows of a walk, and enqueues those that need it';
revoke all on function motive.step_walk(motive.job, integer, text) from public;

-- API: private
create function motive.without_retired(attachment integer, kind text, keys jsonb, hashes bytea[]) returns jsonb
    language sql stable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select case when kind <> 'backfill' then keys else (
        select jsonb_agg(k.key order by k.n)
        from jsonb_array_elements(keys) with ordinality as k (key, n)
        where not exists (select from motive.failure as f where f.attachment = without_retired.attachment
                          and f.key = k.key and f.hash = without_retired.hashes[k.n])) end
$$;
comment on function motive.without_retired(integer, text, jsonb, bytea[]) is
    'The keys of a backfill without those retired for the text that they still have: motive.retry() is for those';
revoke all on function motive.without_retired(integer, text, jsonb, bytea[]) from public;
