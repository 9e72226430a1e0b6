-- Inline mode: a BEFORE row trigger asks the sidecar and writes into NEW, so that RETURNING shows the motive. One
-- statement may spend `budget` on it; rows that are left over, and all rows while the sidecar is at fault, stay
-- without annotation, and the AFTER trigger enqueues them. The client gives faults back as values, so that nothing is
-- caught here, least of all a cancel.

-- API: private
create function motive.check_mode(mode text) returns void
    language plpgsql stable parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    if mode = 'inline' and to_regtype('motive.answer') is null then
        raise exception using
            errcode = 'feature_not_supported',
            message = 'inline mode needs PL/Python, which this installation does without',
            hint = 'Use mode => ''queued'': a worker annotates the rows.';
    end if;
end
$$;
comment on function motive.check_mode(text) is 'Refuses a mode that this installation cannot serve';
revoke all on function motive.check_mode(text) from public;

-- The session's memory of a dead sidecar: for so long after a fault nobody asks, so that it does not cost a budget per
-- insert.
-- API: private
create function motive.inline_pause() returns interval
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$ select interval '3 s' $$;
comment on function motive.inline_pause() is 'How long inline mode leaves a sidecar alone after a fault';
revoke all on function motive.inline_pause() from public;

-- The rest of the statement needs time as well: of what the session's timeouts leave, at most 60 % goes to annotation.
-- API: private
create function motive.inline_deadline(budget interval) returns timestamptz
    language sql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
    select clock_timestamp() + case when t.seconds < 0.05 then interval '0' else least(budget, make_interval(secs => 0.6 * t.seconds)) end
    from motive.time_left as t
$$;
comment on function motive.inline_deadline(interval) is 'When a statement that begins now must have done with its annotation';
revoke all on function motive.inline_deadline(interval) from public;

-- API: private
create type motive.inline_answer as (motive text, confidence real, motives text[], model text);
comment on type motive.inline_answer is 'What inline mode writes into a row; null fields where it could not ask';

-- API: private
create function motive.ask_inline(body text, deadline timestamptz, on_failure text) returns motive.inline_answer
    language plpgsql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    moment constant timestamptz := clock_timestamp();
    -- Times travel through settings as seconds, which read the same whatever DateStyle and TimeZone are.
    paused_until constant timestamptz := to_timestamp(nullif(current_setting('motive.inline_paused_until', true), '')::float8);
    terms record;
    answer record;
    codes text[];
    abstention text;
    context text;
begin
    if on_failure = 'queue' and (moment >= deadline or moment < paused_until) then
        return null;
    end if;
    select t.target, t.files, least(t.seconds, greatest(0.001, extract(epoch from deadline - moment)::float8)) as seconds
    into strict terms from motive.call_terms as t;
    begin
        answer := motive.call_classify(array[body], true, terms.target, terms.files, terms.seconds);
    exception when external_routine_exception or datatype_mismatch then
        get stacked diagnostics context = pg_exception_context;
        answer := motive.broken_client(sqlstate, sqlerrm, context);
    end;
    if answer.sqlstate is null then
        select array_agg(t.code), min(t.code) filter (where t.abstention) into codes, abstention
        from motive.taxonomies as t where t.digest = answer.taxonomy_digest;
        if answer.motives = array[''] and codes is not null then
            return row(abstention, answer.confidences[1], '{}'::text[], answer.model)::motive.inline_answer;
        elsif answer.motives <@ codes then
            return row(answer.motives[1], answer.confidences[1], answer.motives, answer.model)::motive.inline_answer;
        end if;
    end if;
    if on_failure = 'error' then
        raise exception using
            errcode = coalesce(answer.sqlstate, 'object_not_in_prerequisite_state'),
            message = coalesce(answer.message, format('the taxonomy of model %s is not loaded, or does not hold its answer', answer.model)),
            detail = answer.detail,
            hint = coalesce(answer.hint, 'As the owner of the extension: select motive.load_model();');
    end if;
    -- A text that is itself at fault is no reason to leave the sidecar alone.
    if answer.sqlstate is distinct from '22023' then
        perform set_config('motive.inline_paused_until', extract(epoch from clock_timestamp() + motive.inline_pause())::text, false);
    end if;
    return null;
end
$$;
comment on function motive.ask_inline(text, timestamptz, text) is
    'The annotation of one text for inline mode; null where the budget is spent or the sidecar is at fault';
revoke all on function motive.ask_inline(text, timestamptz, text) from public;

-- Runs as the extension's owner: a column of another type than attach has made or found could have a cast or a check of
-- the table's owner, so then nothing is touched, and the AFTER trigger enqueues the row.
-- API: private
create function motive.generate_inline(s motive.shape) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $generate$
declare
    a motive.attachment := (select t from motive.attachment as t where t.id = s.id);
    body text := format($body$
declare
    answer motive.inline_answer;
    -- When the statement began, and when its annotation must end.
    times numeric[] := nullif(current_setting('motive.inline_deadline_%1$s', true), '')::numeric[];
begin
    -- A partition made after attach has the row's trigger, not the statement's.
    if tg_level = 'STATEMENT' or times[1] is distinct from extract(epoch from statement_timestamp()) then
        times := array[extract(epoch from statement_timestamp()), extract(epoch from motive.inline_deadline(%9$L))];
        perform set_config('motive.inline_deadline_%1$s', times::text, true);
    end if;
    if tg_level = 'STATEMENT' then
        return null;
    end if;
    if (select count(*) from pg_attribute where attrelid = tg_relid and (attname, atttypid) in (%11$s) and not attisdropped) < 6 then
        return new;
    end if;
    -- Moved from another partition, or copied with its text: a person's label as well stays what it is.
    if tg_op = 'INSERT' and new.%7$s = %8$s and num_nulls(new.%3$s, new.%4$s, new.%5$s, new.%6$s) = 0 then
        return new;
    end if;
    answer := motive.ask_inline(new.%2$s::text, to_timestamp(times[2]::float8), %10$L);
    if answer.motive is null then
        new.%3$s := null; new.%4$s := null; new.%5$s := null; new.%6$s := null; new.%7$s := null;
    else
        new.%3$s := answer.motive; new.%4$s := answer.confidence; new.%5$s := answer.motives; new.%6$s := answer.model;
        new.%7$s := %8$s;
    end if;
    return new;
end$body$, s.id, s.body, s.motive, s.confidence, s.motives, s.model, s.hash, motive.hash_expression('new.' || s.body),
        a.budget, a.on_failure, s.written_types);
begin
    execute format('create or replace function motive.inline_%s() returns trigger language plpgsql volatile parallel unsafe '
        'security definer set search_path to pg_catalog, pg_temp as %L', s.id, body);
    execute format('comment on function motive.inline_%s() is %L', s.id, 'Annotates what a statement on ' || s.relation || ' writes, within its budget');
    perform motive.revoke_everything(format('motive.inline_%s', s.id)::regproc);
    execute format('grant execute on function motive.inline_%s() to %s', s.id, s.owner::regrole);
end
$generate$;
comment on function motive.generate_inline(motive.shape) is 'Writes the inline trigger function of an attachment';
revoke all on function motive.generate_inline(motive.shape) from public;

-- API: private
create function motive.create_inline_triggers(attachment integer, target regclass, text_column name, mode text) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    relation regclass;
begin
    if mode <> 'inline' then
        for relation in
            select t.tgrelid from pg_trigger as t
            where t.tgname = format('zzz_motive_%s_begin', attachment)
              and t.tgrelid in (select target union select p.relid from pg_partition_tree(target) as p)
        loop
            execute format('drop trigger zzz_motive_%s_begin on %s', attachment, relation);
        end loop;
        if exists (select from pg_trigger as t where t.tgrelid = target and t.tgname = format('zzz_motive_%s_yask', attachment)) then
            execute format('drop trigger zzz_motive_%s_yask on %s', attachment, target);
            execute format('drop trigger zzz_motive_%s_yask_again on %s', attachment, target);
        end if;
        return;
    end if;
    for relation in select target union select p.relid from pg_partition_tree(target) as p loop
        execute format(
            'create or replace trigger zzz_motive_%1$s_begin before insert or update on %2$s '
            'for each statement execute function motive.inline_%1$s()', attachment, relation);
    end loop;
    -- Their names sort behind reset and keep.
    execute format(
        'create or replace trigger zzz_motive_%1$s_yask before insert on %2$s for each row '
        'when (new.%3$I is not null) execute function motive.inline_%1$s()', attachment, target, text_column);
    execute format(
        'create or replace trigger zzz_motive_%1$s_yask_again before update on %2$s for each row '
        'when (new.%3$I is not null and old.%3$I::text collate "C" is distinct from new.%3$I::text collate "C") '
        'execute function motive.inline_%1$s()', attachment, target, text_column);
end
$$;
comment on function motive.create_inline_triggers(integer, regclass, name, text) is 'Puts the triggers of inline mode on a table, or removes them';
revoke all on function motive.create_inline_triggers(integer, regclass, name, text) from public;
