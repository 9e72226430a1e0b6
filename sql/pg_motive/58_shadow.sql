-- Another model beside the one that serves: shadow() has it answer every row, diff() compares, promote() makes its
-- answers the annotation, rollback() takes that back. Answers are kept, so that neither asks a model twice.

-- API: private
create table motive.shadow_result (
    attachment integer not null,
    key jsonb not null,
    model text not null,
    hash bytea not null,
    motives text[] not null,
    confidence real not null,
    primary key (attachment, model, key)
);
comment on table motive.shadow_result is 'What a model says, or said, of rows that another one annotates';
comment on column motive.shadow_result.hash is 'Hash of the text that was read: for another text it says nothing';
comment on column motive.shadow_result.motives is 'Motives, best first; empty for abstention';
revoke all on motive.shadow_result from public;
select pg_catalog.pg_extension_config_dump('motive.shadow_result', '');
alter table motive.shadow_result enable row level security;
create policy readers_read on motive.shadow_result for select
    using (exists (
        select from motive.attachment as a
        where a.id = attachment and pg_catalog.has_table_privilege(a.target, 'SELECT') and not pg_catalog.row_security_active(a.target)));
comment on policy readers_read on motive.shadow_result is 'Who may read all rows of the table may compare models on it';
create policy owners_forget on motive.shadow_result for delete
    using (exists (select from motive.attachment as a join pg_catalog.pg_class as c on c.oid = a.target
                   where a.id = attachment and pg_catalog.pg_has_role(c.relowner, 'USAGE')));
comment on policy owners_forget on motive.shadow_result is 'Who owns the table, and may read all rows of it, may have it forgotten what a model said of it';

-- API: private
create table motive.promotion (
    id integer generated always as identity primary key,
    model text not null,
    replaces text,
    promoted_at timestamptz not null default clock_timestamp()
);
comment on table motive.promotion is 'Which model was made the one to annotate with, and when';
comment on column motive.promotion.replaces is 'The model that annotated before: what motive.rollback() goes back to';
revoke all on motive.promotion from public;
select pg_catalog.pg_extension_config_dump('motive.promotion', '');
select pg_catalog.pg_extension_config_dump('motive.promotion_id_seq', '');

-- API: private
create function motive.write_shadow(attachment integer, results motive.result[], model text, abstention text,
                                    out written jsonb[], out back jsonb[], out failed motive.result[])
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    with kept as (
        insert into motive.shadow_result as s (attachment, key, model, hash, motives, confidence)
        select distinct on (r.k) write_shadow.attachment, r.k, write_shadow.model, r.h, r.m, r.c from unnest(results) as r
        on conflict on constraint shadow_result_pkey do update
            set hash = excluded.hash, motives = excluded.motives, confidence = excluded.confidence
        returning s.key
    )
    select array_agg(k.key) into written from kept as k;
end
$$;
comment on function motive.write_shadow(integer, motive.result[], text, text) is 'Keeps what a shadow run has found';
revoke all on function motive.write_shadow(integer, motive.result[], text, text) from public;

-- API: public
create function motive.shadow(model text, target regclass default null) returns integer
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    started integer := 0;
    t regclass;
begin
    if (model ~ '^.+@.+/[0-9a-f]{8}$') is not true then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%s is no model', coalesce(quote_literal(left(model, 200)), 'NULL')),
            hint = 'Give name@version/digest8, such as motive@1.1.0/0a1b2c3d, as ''motive model show DIRECTORY'' prints it.';
    end if;
    if target is not null then
        return motive.start_job(target, null, 'shadow', model);
    end if;
    for t in
        select distinct a.target from motive.attachment as a join pg_class as c on c.oid = a.target
        where pg_has_role(c.relowner, 'USAGE')
    loop
        started := started + motive.start_job(t, null, 'shadow', model);
    end loop;
    return started;
end
$$;
comment on function motive.shadow(text, regclass) is
    'Has another model answer every attached row beside the annotation; a worker with --shadow MODEL and a sidecar that serves it does the work';
revoke all on function motive.shadow(text, regclass) from public;

-- Runs with the caller's rights: it shows rows that the caller could read. To read a table may run code of its owner's,
-- in policies, casts, or expressions of its indexes that the planner computes: so, unless one is named, only tables of
-- owners who gain nothing by it. Keys are written as the queue writes them,
-- whatever the session's settings are.
-- API: public
create function motive.diff(a text, b text, of_table regclass default null)
    returns table (target regclass, text_column name, key jsonb, motive_a text, confidence_a real, motive_b text, confidence_b real)
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
    set datestyle to 'ISO' set timezone to 'UTC' set intervalstyle to 'postgres' set extra_float_digits to 1 set bytea_output to 'hex'
as $$
#variable_conflict use_column
declare
    s motive.shape;
    t record;
    heard text[];
    silent text[] := array[a, b];
    me constant pg_roles := (select r from pg_roles as r where r.rolname = current_user);
    abstention constant text := (select c.code from motive.taxonomy as c where c.abstention limit 1);
begin
    for t in
        select m.id, m.target, m.text_column
        from motive.attachment as m
        join pg_class as c on c.oid = m.target
        join pg_roles as o on o.oid = c.relowner
        where has_table_privilege(m.target, 'SELECT')
          and case when of_table is not null then m.target = of_table
                   else o.oid = me.oid or o.rolsuper or (not me.rolsuper and pg_has_role(o.oid, 'MEMBER')) end
    loop
        continue when not motive.held_as_made(t.id) or row_security_active(t.target);
        s := motive.shape_of(t.id);
        execute format(
            'select array(select m.name from unnest($1) as m (name) where exists (select from %1$s as t where t.%2$s = m.name) '
            'or exists (select from motive.shadow_result as r where r.attachment = $2 and r.model = m.name))', s.relation, s.model)
            into heard using silent, t.id;
        silent := array(select m.name from unnest(silent) as m (name) where m.name <> all (heard));
        return query execute format($query$
            with live as not materialized (
                select %1$s as key, t.%2$s as hash, t.%3$s as motives, t.%4$s as confidence, t.%5$s as model from %6$s as t
            ), said as (
                select l.*, 1 as place from live as l where l.model in ($1, $2)
                union all
                select r.key, r.hash, r.motives, r.confidence, r.model, 2 from motive.shadow_result as r
                where r.attachment = $3 and r.model in ($1, $2) and r.key in (select l.key from live as l)
            ), one as (
                select distinct on (x.key) x.* from said as x where x.model = $1 order by x.key, x.place
            ), other as (
                select distinct on (x.key) x.* from said as x where x.model = $2 order by x.key, x.place
            )
            select $4::regclass, $5::name, one.key, coalesce(one.motives[1], $6), one.confidence,
                   coalesce(other.motives[1], $6), other.confidence
            from one join other on other.key = one.key and other.hash = one.hash
            where one.motives[1] is distinct from other.motives[1]
            $query$, s.key_of_t, s.hash, s.motives, s.confidence, s.model, s.relation)
            using a, b, t.id, t.target, t.text_column, abstention;
    end loop;
    -- Silence would read as agreement.
    if cardinality(silent) > 0 then
        raise exception using
            errcode = 'undefined_object',
            message = format('model %L has said nothing of the rows that you may read', left(silent[1], 200)),
            hint = 'See motive.models for the names of models; motive.shadow() has one answer every row. Tables of roles that are not yours are compared where you name one.';
    end if;
end
$$;
comment on function motive.diff(text, text, regclass) is
    'Rows whose first motive differs between two models, each as annotated or as a shadow run found; only where both read the same text, and only for those from whom row-level security hides no row';
revoke all on function motive.diff(text, text, regclass) from public;

-- API: private
create function motive.step_promotion(j motive.job, max_rows integer) returns bigint
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    taken motive.result[];
    keys jsonb[];
    reached jsonb;
    outcome record;
begin
    select array_agg(row(null, r.key, r.hash, r.motives, r.confidence, null, null)::motive.result order by r.key), array_agg(r.key order by r.key)
    into taken, keys
    from (select s.* from motive.shadow_result as s
          where s.attachment = j.attachment and s.model = j.model and (j.last_key is null or s.key > j.last_key)
          order by s.key limit max_rows) as r;
    reached := keys[cardinality(keys)];
    if reached is not null then
        -- What stands there now is kept, for rollback().
        execute format(
            'insert into motive.shadow_result as s (attachment, key, model, hash, motives, confidence) '
            'select $1, n.key, n.model, n.hash, n.motives, coalesce(n.confidence, 0) from motive.said_%s($2) as n '
            'where n.model <> $3 and n.model <> ''person'' on conflict on constraint shadow_result_pkey do update '
            'set hash = excluded.hash, motives = excluded.motives, confidence = excluded.confidence', j.attachment)
            using j.attachment, keys, j.model;
        -- An owner's code may have set another path for the session: nothing may be looked up there with our rights.
        if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) 'pg_catalog, pg_temp' then
            perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);
        end if;
        outcome := motive.write_results(j.attachment, taken, j.model, motive.check_labels(taken, j.model));
        if cardinality(outcome.back) > 0 then
            -- Locked or changed just now: a worker asks again.
            perform motive.enqueue(j.attachment, to_jsonb(outcome.back), 2::smallint);
        end if;
        perform motive.set_aside(j.attachment, outcome.failed, 2::smallint, 0::smallint, clock_timestamp(), null);
        -- What the rows now say, or have no use for. What somebody locked, changed just now or refused stays, for another
        -- promotion.
        delete from motive.shadow_result as u
        where u.attachment = j.attachment and u.model = j.model and u.key = any (keys)
          and u.key <> all (outcome.back || array(select f.k from unnest(outcome.failed) as f));
    end if;
    update motive.job as w
    set last_key = coalesce(reached, w.last_key), scanned = w.scanned + coalesce(cardinality(keys), 0),
        stepped_at = clock_timestamp(), problem = null,
        finished_at = case when coalesce(cardinality(keys), 0) < max_rows then clock_timestamp() end
    where w.id = j.id;
    return greatest(1, coalesce(cardinality(keys), 0));
end
$$;
comment on function motive.step_promotion(motive.job, integer) is 'Writes the next rows of a promotion from what the shadow run found, which goes from the rows that take it, and keeps what they said';
revoke all on function motive.step_promotion(motive.job, integer) from public;

-- Until a first promotion, only the rows say which model annotates: some of each table do, read as its owner. Without
-- the answer there is no way back, so a table that cannot be read must not count as one that names no model.
-- API: private
create function motive.annotating_model(besides text) returns text
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    a motive.attachment;
    seen text[];
    models text[] := '{}';
    annotating text;
    problem text;
begin
    for a in select t.* from motive.attachment as t where motive.obstacle(t.id) is null loop
        begin
            execute format('select array_agg(s.model) from motive.said_%s(null) as s', a.id) into seen;
            -- An owner's code may have set another path for the session: nothing may be looked up there with our rights.
            if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) 'pg_catalog, pg_temp' then
                perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);
            end if;
            models := models || seen;
        exception when others or assert_failure then
            problem := format('which model annotates %s cannot be read: error %s', a.target, sqlstate);
        end;
    end loop;
    select mode() within group (order by m) into annotating from unnest(models) as m where m not in (besides, 'person');
    if annotating is null and problem is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = problem,
            hint = 'Try again once it can be read: motive.rollback() goes back to that model.';
    end if;
    return annotating;
end
$$;
comment on function motive.annotating_model(text) is 'The model that most of the rows looked at name, other than one; null where none does';
revoke all on function motive.annotating_model(text) from public;

-- API: public
create function motive.promote(model text) returns integer
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    t regclass;
    started integer := 0;
    last motive.promotion := (select p from motive.promotion as p order by p.id desc limit 1);
begin
    if not exists (select from motive.models as m where m.model = promote.model) then
        raise exception using
            errcode = 'undefined_object',
            message = format('model %L is not known to this database', left(model, 200)),
            hint = 'See motive.models; a worker registers the model that its sidecar serves.';
    end if;
    insert into motive.promotion (model, replaces)
    values (model, coalesce(nullif(last.model, model), last.replaces, motive.annotating_model(model)));
    for t in
        select distinct a.target from motive.attachment as a join pg_class as c on c.oid = a.target
        where pg_has_role(c.relowner, 'USAGE')
    loop
        started := started + motive.start_job(t, null, 'promote', model);
        perform motive.start_job(t, null, 'reannotate', model);
    end loop;
    return started;
end
$$;
comment on function motive.promote(text) is
    'Makes a model''s answers the annotation: at once where a shadow run has them, the rest as soon as a worker''s sidecar serves it';
revoke all on function motive.promote(text) from public;

-- API: public
create function motive.rollback() returns text
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    before constant text := (select p.replaces from motive.promotion as p order by p.id desc limit 1);
begin
    if before is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'there is no earlier model to go back to',
            hint = 'motive.promote() is what motive.rollback() takes back.';
    end if;
    perform motive.promote(before);
    return before;
end
$$;
comment on function motive.rollback() is 'Promotes the model that the last promotion replaced; returns it';
revoke all on function motive.rollback() from public;

-- API: public
create function motive.forget(model text, target regclass default null) returns bigint
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    forgotten bigint;
begin
    if target is not null then
        perform motive.check_owner(target);
    end if;
    with gone as (
        delete from motive.shadow_result as r using motive.attachment as a join pg_class as c on c.oid = a.target
        where a.id = r.attachment and a.target = coalesce(forget.target, a.target) and r.model = forget.model
          and pg_has_role(c.relowner, 'USAGE')
        returning 1
    )
    select count(*) into forgotten from gone;
    return forgotten;
end
$$;
comment on function motive.forget(text, regclass) is
    'Removes what is kept of a model beside the annotation, by a shadow run or for motive.rollback(); rows keep their labels; returns how many. Of a table whose owner row-level security hides rows from, the extension''s owner alone does';
revoke all on function motive.forget(text, regclass) from public;
