-- What motive.grant_usage() adds for annotation: owners may attach their tables, readers may look.

-- First what users call; then what that calls with the caller's rights; last what is harmless to call, since it only
-- brings things in line with motive.attachment and the catalogs.
-- API: private
create function motive.annotation_functions() returns text
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select 'motive.attach(regclass, name, text, interval, text, text), motive.detach(regclass, name, boolean), '
        'motive.backfill(regclass, name), motive.reannotate(regclass, name), motive.retry(regclass, name), motive.cancel(regclass, name, text), '
        'motive.correct(regclass, jsonb, text[], name), motive.corrections(regclass, name), motive.shadow(text, regclass), '
        'motive.diff(text, text, regclass), motive.forget(text, regclass), '
        'motive.check_owner(regclass), motive.check_choice(text, text, text[]), motive.check_target(regclass, name, name), motive.check_mode(text), motive.add_annotation_columns(regclass, name), '
        'motive.create_triggers(integer, regclass, name, name), motive.create_inline_triggers(integer, regclass, name, text), '
        'motive.key_columns(regclass), motive.holds_text(oid), motive.annotation_columns(name), motive.hash_expression(text), motive.shape_of(integer), '
        'motive.normal_key(regclass, jsonb), motive.start_job(regclass, name, text, text), '
        'motive.generate(integer), motive.sweep(), motive.obstacle(integer), motive.held_as_made(integer), motive.check_made(motive.attachment), motive.uncovered_partitions(integer)'
$$;
comment on function motive.annotation_functions() is 'The functions that a user of annotation needs, as a list for GRANT';
revoke all on function motive.annotation_functions() from public;

-- API: private
create function motive.grant_annotation(role regrole) returns void
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    execute format('grant execute on function %s to %s', motive.annotation_functions(), role);
    execute format('grant select on motive.attachments, motive.queue_depth, motive.failures, motive.freshness, motive.jobs, motive.status to %s', role);
    -- Behind row-level security.
    execute format('grant select, delete, insert (target, text_column, mode, budget, on_failure, prefix), update (text_column, mode, budget, on_failure) on motive.attachment to %s', role);
    execute format('grant select, delete, insert (attachment, kind, model, estimate) on motive.job to %s', role);
    execute format('grant insert (attachment, key, hash, motives) on motive.correction to %s', role);
    execute format('grant select, delete on motive.shadow_result to %s', role);
end
$$;
comment on function motive.grant_annotation(regrole) is 'The part of motive.grant_usage() for annotation';
revoke all on function motive.grant_annotation(regrole) from public;

-- API: private
create function motive.revoke_annotation(role regrole) returns void
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    execute format('revoke all on function %s from %s', motive.annotation_functions(), role);
    execute format('revoke all on motive.attachments, motive.queue_depth, motive.failures, motive.freshness, motive.jobs, motive.status, '
        'motive.attachment, motive.job, motive.correction, motive.shadow_result from %s', role);
    execute format('revoke all (target, text_column, mode, budget, on_failure, prefix) on motive.attachment from %s', role);
    execute format('revoke all (attachment, kind, model, estimate) on motive.job from %s', role);
    execute format('revoke all (attachment, key, hash, motives) on motive.correction from %s', role);
end
$$;
comment on function motive.revoke_annotation(regrole) is 'Takes back what motive.grant_annotation() gave';
revoke all on function motive.revoke_annotation(regrole) from public;
