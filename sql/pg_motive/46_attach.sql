-- attach and detach run with the caller's rights throughout: what the caller may not do to the table is refused by
-- PostgreSQL itself, and registration by the policies of motive.attachment.

-- Before policies and PostgreSQL itself refuse, with an error that says less.
-- API: private
create function motive.check_owner(target regclass) returns void
    language plpgsql stable parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    owner constant oid := (select c.relowner from pg_class as c where c.oid = target);
begin
    if owner is null then
        raise exception using
            errcode = 'undefined_table',
            message = format('there is no table %s', coalesce(target::text, 'NULL')),
            hint = 'Name one that exists.';
    elsif not pg_has_role(owner, 'USAGE') then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('must be owner of table %s', target),
            hint = format('It belongs to %s: call this as that role.', owner::regrole);
    end if;
end
$$;
comment on function motive.check_owner(regclass) is 'Refuses who does not own a table';
revoke all on function motive.check_owner(regclass) from public;

-- Before a CHECK refuses, or nothing is found: neither says what could have been given.
-- API: private
create function motive.check_choice(argument text, given text, choices text[]) returns void
    language plpgsql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
begin
    if given <> all (choices) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%s cannot be %L', argument, left(given, 63)),
            hint = format('Give one of: %s.', array_to_string(choices, ', '));
    end if;
end
$$;
comment on function motive.check_choice(text, text, text[]) is 'Refuses an argument that is none of the words that it may be; NULL leaves the choice';
revoke all on function motive.check_choice(text, text, text[]) from public;

-- API: private
create function motive.check_target(target regclass, text_column name, prefix name) returns void
    language plpgsql stable parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    class pg_class;
    col pg_attribute;
    partition regclass;
    problem text;
    remedy text;
begin
    perform motive.check_owner(target);
    select c.* into class from pg_class as c where c.oid = target;
    select a.* into col from pg_attribute as a where a.attrelid = target and a.attname = text_column and a.attnum > 0 and not a.attisdropped;
    select min(a.target::oid) into partition from motive.attachment as a
    where a.target <> check_target.target and a.target in (select p.relid from pg_partition_tree(check_target.target) as p);
    if class.relkind not in ('r', 'p') then
        problem := format('%s is not a table', target);
        remedy := 'Attach the table that holds the texts: views and foreign tables have no triggers with transition tables.';
    elsif class.relpersistence = 't' then
        problem := format('%s is a temporary table, which no worker can see', target);
        remedy := 'Use classify_motive() or motive.classify_rows() for texts of one session.';
    elsif class.relnamespace in ('pg_catalog'::regnamespace, 'motive'::regnamespace) then
        problem := format('%s is a table of the system', target);
        remedy := 'Attach a table of your own.';
    elsif class.relispartition then
        problem := format('%s is a partition', target);
        remedy := 'Attach the partitioned table: its partitions come along.';
    elsif partition is not null then
        problem := format('partition %s of %s is attached by itself', partition, target);
        remedy := format('Detach it first, its columns and labels stay: motive.detach(%L)', partition);
    elsif class.relkind = 'r' and exists (select from pg_inherits as i where target in (i.inhrelid, i.inhparent)) then
        problem := format('%s inherits from a table, or another inherits from it', target);
        remedy := 'Triggers and keys are not inherited: make it a partitioned table, or end it: alter table CHILD no inherit PARENT.';
    elsif not exists (select from motive.key_columns(target)) then
        problem := format('%s has no primary key', target);
        remedy := format('Add one first: alter table %s add column id bigint generated always as identity primary key', target);
    elsif exists (
        select from pg_index as i join pg_class as x on x.oid = i.indexrelid join pg_am as m on m.oid = x.relam
        where i.indrelid = target and i.indisprimary and m.amname <> 'btree'
    ) then
        -- Its operators say that keys overlap, not that they are equal or follow one another.
        problem := format('the primary key of %s has periods without overlaps', target);
        remedy := 'Make that key a unique constraint, and add a primary key of ordinary columns, such as an identity.';
    elsif col.attname is null then
        problem := format('%s has no column %I', target, text_column);
        remedy := 'Name a column that holds text.';
    elsif not motive.holds_text(col.atttypid) then
        problem := format('column %I of %s has type %s', text_column, target, format_type(col.atttypid, col.atttypmod));
        remedy := 'Only text, varchar, char and domains over them are annotated.';
    elsif col.attgenerated <> '' then
        problem := format('column %I of %s is generated', text_column, target);
        remedy := 'Triggers see a generated column too late: attach the column that it is made from.';
    elsif octet_length(prefix::text) > 52 or prefix::text = '' then
        problem := format('prefix %L has %s bytes', prefix, octet_length(prefix::text));
        remedy := 'Give one of 1 to 52 bytes.';
    end if;
    if problem is not null then
        raise exception using errcode = 'invalid_parameter_value', message = problem, hint = remedy;
    end if;
end
$$;
comment on function motive.check_target(regclass, name, name) is 'Refuses what cannot be attached, with the remedy';
revoke all on function motive.check_target(regclass, name, name) from public;

-- API: private
create function motive.add_annotation_columns(target regclass, prefix name) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    there integer;
    fitting integer;
    stranger name;
    additions text;
    -- Functions were written for them once: those that are there are ours, others were renamed or dropped since.
    ours constant boolean := exists (
        select from motive.attachment as t
        where t.target = add_annotation_columns.target and t.prefix = add_annotation_columns.prefix and t.generated_for is not null);
begin
    select count(a.attname), count(a.attname) filter (where format_type(a.atttypid, a.atttypmod) = n.type and a.attgenerated = ''),
           min(a.attname::text),
           string_agg(format('add column %I %s', n.name, n.type), ', ' order by n.place) filter (where a.attname is null)
    into there, fitting, stranger, additions
    from motive.annotation_columns(prefix) with ordinality as n (role, name, type, place)
    left join pg_attribute as a on a.attrelid = target and a.attname = n.name and a.attnum > 0 and not a.attisdropped;
    if there = 0 or (ours and there = fitting and there < 5) then
        execute format('alter table %s %s', target, additions);
    elsif fitting < 5 then
        raise exception using
            errcode = 'duplicate_column',
            message = format('%s has a column %I already', target, stranger),
            hint = format('Rename it, or choose another prefix: motive.attach(%L, ..., prefix => ''buying_motive'')', target);
    end if; -- all five as we make them: kept by an earlier detach
end
$$;
comment on function motive.add_annotation_columns(regclass, name) is 'Adds the annotation''s columns, or what is missing of those of an earlier attach';
revoke all on function motive.add_annotation_columns(regclass, name) from public;

-- Row triggers on a partitioned table are PostgreSQL's to pass on; statement triggers must stand on the parent and on
-- every partition, since an insert straight into a partition does not fire the parent's.
-- API: private
create function motive.create_triggers(attachment integer, target regclass, text_column name, prefix name) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    relation regclass;
    old_row text;
    new_row text;
    brought text;
begin
    select string_agg(format('old.%I', n.name), ', '), string_agg(format('new.%I', n.name), ', '),
           string_agg(format('new.%I is not null', n.name), ' or ')
    into old_row, new_row, brought
    from motive.annotation_columns(prefix) as n;
    -- Names that sort last, so that the text is seen as other triggers leave it.
    execute format(
        'create or replace trigger zzz_motive_%1$s_reset before update on %2$s for each row '
        'when (old.%3$I::text collate "C" is distinct from new.%3$I::text collate "C") '
        'execute function motive.guard_%1$s(''reset'')', attachment, target, text_column);
    execute format(
        'create or replace trigger zzz_motive_%1$s_keep before update on %2$s for each row '
        'when (current_setting(''motive.writing'', true) is distinct from ''on'' '
        'and old.%3$I::text collate "C" is not distinct from new.%3$I::text collate "C" '
        'and row(%4$s) is distinct from row(%5$s)) '
        'execute function motive.guard_%1$s(''keep'')', attachment, target, text_column, old_row, new_row);
    -- Every insert reads this condition anew and asks it of each row: it is kept short.
    execute format(
        'create or replace trigger zzz_motive_%1$s_brought before insert on %2$s for each row '
        'when (%3$s) execute function motive.guard_%1$s(''brought'')', attachment, target, brought);
    for relation in select target union select p.relid from pg_partition_tree(target) as p loop
        execute format(
            'create or replace trigger zzz_motive_%1$s_inserted after insert on %2$s '
            'referencing new table as motive_new for each statement execute function motive.capture_%1$s()', attachment, relation);
        execute format(
            'create or replace trigger zzz_motive_%1$s_updated after update on %2$s '
            'referencing old table as motive_old new table as motive_new for each statement execute function motive.recapture_%1$s()',
            attachment, relation);
    end loop;
end
$$;
comment on function motive.create_triggers(integer, regclass, name, name) is 'Puts the triggers on a table and its partitions';
revoke all on function motive.create_triggers(integer, regclass, name, name) from public;

-- API: public
create function motive.attach(
    target regclass, text_column name, mode text default null, budget interval default null,
    on_failure text default null, prefix text default null
) returns integer
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
    set lock_timeout to '5s'
as $$
declare
    known motive.attachment;
    chosen name;
    other name;
begin
    select a.* into known from motive.attachment as a where a.target = attach.target and a.text_column = attach.text_column;
    chosen := coalesce(prefix, known.prefix, 'motive');
    perform motive.check_target(target, text_column, chosen);
    perform motive.check_choice('mode', mode, array['queued', 'inline']);
    perform motive.check_choice('on_failure', on_failure, array['queue', 'error']);
    if budget <= interval '0' or budget > interval '1 min' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('budget cannot be %s', budget),
            hint = 'It is what one statement may spend: give more than 0, and at most 1 minute.';
    end if;
    if known.id is null then
        -- A column that was renamed, or dropped for another, hands its attachment on, with options and labels. Rows that came
        -- meanwhile are for a backfill; so are those that waited, where a worker met them without their column and let them
        -- go, as it did then with jobs.
        update motive.attachment as a set text_column = attach.text_column
        where a.target = attach.target and a.prefix = chosen and not exists (
            select from pg_attribute as t where t.attrelid = a.target and t.attname = a.text_column and not t.attisdropped)
        returning a.* into known;
    end if;
    select a.text_column into other from motive.attachment as a
    where a.target = attach.target and a.prefix = chosen and a.text_column <> attach.text_column;
    if other is not null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('column %I of %s is attached with prefix %I already', other, target, chosen),
            hint = format('Give this one a prefix of its own: motive.attach(%L, %L, prefix => %L)', target, text_column, left(text_column, 40) || '_motive');
    elsif known.prefix <> chosen then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('column %I of %s is attached with prefix %I', text_column, target, known.prefix),
            hint = 'Detach it first, or leave the prefix as it is.';
    end if;
    mode := coalesce(mode, known.mode, 'queued');
    perform motive.check_mode(mode);
    insert into motive.attachment (target, text_column, mode, budget, on_failure, prefix)
    values (target, text_column, mode, coalesce(budget, known.budget, interval '250 ms'), coalesce(on_failure, known.on_failure, 'queue'), chosen)
    on conflict on constraint attachment_target_text_column_key
        do update set mode = excluded.mode, budget = excluded.budget, on_failure = excluded.on_failure
    returning * into known;
    perform motive.add_annotation_columns(target, known.prefix);
    if motive.obstacle(known.id) is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('%s cannot be attached: %s', target, motive.obstacle(known.id)),
            hint = 'Do so, and attach again.';
    end if;
    perform motive.generate(known.id);
    perform motive.create_triggers(known.id, target, text_column, known.prefix);
    perform motive.create_inline_triggers(known.id, target, text_column, mode);
    return known.id;
end
$$;
comment on function motive.attach(regclass, name, text, interval, text, text) is
    'Keeps motive columns of a table filled from one of its text columns; a second call changes the options that it names, or the column where the first is gone';
revoke all on function motive.attach(regclass, name, text, interval, text, text) from public;

-- API: public
create function motive.detach(target regclass, text_column name default null, drop_columns boolean default false) returns integer
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
    set lock_timeout to '5s'
as $$
declare
    known motive.attachment;
    doomed record;
    drops text;
    detached integer := 0;
begin
    for known in
        select a.* from motive.attachment as a
        where a.target = detach.target and a.text_column = coalesce(detach.text_column, a.text_column)
    loop
        -- A partition that was detached has kept its triggers.
        for doomed in
            select t.tgrelid::regclass as relation, t.tgname as name from pg_trigger as t join pg_class as c on c.oid = t.tgrelid
            where t.tgname like format('zzz\_motive\_%s\_%%', known.id) and t.tgparentid = 0 and pg_has_role(c.relowner, 'USAGE')
        loop
            execute format('drop trigger %I on %s', doomed.name, doomed.relation);
        end loop;
        if drop_columns then
            select string_agg(format('drop column if exists %I', n.name), ', ') into drops
            from motive.annotation_columns(known.prefix) as n;
            execute format('alter table %s %s', target, drops);
        end if;
        delete from motive.attachment as a where a.id = known.id;
        if not found then
            raise exception using errcode = 'insufficient_privilege', message = format('must be owner of table %s', target);
        end if;
        detached := detached + 1;
    end loop;
    if detached = 0 then
        raise exception using
            errcode = 'undefined_object',
            message = format('%s is not attached%s', target, case when text_column is null then '' else format(' by column %I', text_column) end),
            hint = 'See motive.attachments.';
    end if;
    perform motive.sweep();
    return detached;
end
$$;
comment on function motive.detach(regclass, name, boolean) is
    'Ends the annotation of a table, or of one of its columns; the annotation stays unless drop_columns';
revoke all on function motive.detach(regclass, name, boolean) from public;

-- Harmless to call: it only brings things in line with motive.attachment and the catalogs.
-- API: private
create function motive.sweep() returns void
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp set lock_timeout to '200ms'
as $$
declare
    gone integer;
    doomed record;
begin
    for gone in
        delete from motive.attachment as a
        where not exists (select from pg_class as c where c.oid = a.target) returning a.id
    loop
        null;
    end loop;
    -- Renamed, given away, changed, or pg_motive itself upgraded: the functions follow.
    perform motive.renew(a.id) from motive.attachment as a
    where motive.obstacle(a.id) is null and a.generated_for is distinct from motive.digest(motive.shape_of(a.id));
    for doomed in
        select p.oid::regprocedure as signature from pg_proc as p
        where p.pronamespace = 'motive'::regnamespace and p.proname ~ '^(capture|guard|inline|read|recapture|scan|said|write)_[0-9]+$'
          and not exists (select from motive.attachment as a where p.proname like '%\_' || a.id::text)
          and not exists (select from pg_trigger as t where t.tgfoid = p.oid)
    loop
        begin
            execute format('drop function %s', doomed.signature);
        exception when lock_not_available then
            null; -- a session that has it open; the next sweep comes
        end;
    end loop;
    delete from motive.queue as q where not exists (select from motive.attachment as a where a.id = q.attachment);
    -- What jobs have enqueued goes with the last of them; in the order in which workers lock entries.
    delete from motive.queue as q where q.id = any (array(
        select o.id from motive.queue as o
        where o.priority > 1 and not exists (
            select from motive.job as j
            where j.attachment = o.attachment and (j.kind = 'shadow') = (o.priority = 3))
        order by o.id for update));
    delete from motive.failure as f where not exists (select from motive.attachment as a where a.id = f.attachment);
    delete from motive.job as j where not exists (select from motive.attachment as a where a.id = j.attachment);
    delete from motive.shadow_result as r where not exists (select from motive.attachment as a where a.id = r.attachment);
    delete from motive.correction as c where not exists (select from motive.attachment as a where a.id = c.attachment);
    delete from motive.freshness_bucket as f
    where f.minute < clock_timestamp() - interval '1 hour'
       or not exists (select from motive.attachment as a where a.id = f.attachment);
end
$$;
comment on function motive.sweep() is
    'Removes what is left of dropped tables, detached columns and cancelled jobs, and renews the functions of changed tables';
revoke all on function motive.sweep() from public;
