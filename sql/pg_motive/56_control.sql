-- API: private
create function motive.register_served_model(document jsonb) returns text
    language sql volatile strict parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$ select motive.register_model(document) $$;
comment on function motive.register_served_model(jsonb) is 'Records the model that a worker''s sidecar serves; returns name@version/digest8';
revoke all on function motive.register_served_model(jsonb) from public;

-- API: private
create function motive.progress() returns table (what text, seen bigint, total bigint)
    language sql stable parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
    select format('%s of %s.%I', j.kind, a.target, a.text_column), j.scanned, coalesce(j.estimate, 0)
    from motive.job as j join motive.attachment as a on a.id = j.attachment
    where j.finished_at is null
$$;
comment on function motive.progress() is 'How far the jobs that run have come';
revoke all on function motive.progress() from public;

-- What `motive worker` calls, for a role that need not own anything.
-- API: private
create function motive.worker_functions() returns text
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select 'motive.claim(integer, interval, text, boolean), motive.read(uuid, text), '
        'motive.complete(uuid, jsonb, text), motive.fail(uuid, bigint, jsonb, text), motive.extend(uuid, interval), '
        'motive.release(uuid, interval), motive.put_off(uuid, interval), motive.step(integer, text), motive.put_off_step(text), motive.sweep(), motive.progress(), motive.measures(), '
        'motive.register_served_model(jsonb)'
$$;
comment on function motive.worker_functions() is 'The functions that a worker needs, as a list for GRANT';
revoke all on function motive.worker_functions() from public;

-- API: public
create function motive.grant_worker(role regrole) returns void
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    execute format('grant usage on schema motive to %s', role);
    execute format('grant execute on function %s to %s', motive.worker_functions(), role);
end
$$;
comment on function motive.grant_worker(regrole) is
    'Lets a role run the worker: it can read every attached text and write every annotation, and nothing else';
revoke all on function motive.grant_worker(regrole) from public;

-- API: public
create function motive.revoke_worker(role regrole) returns void
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    execute format('revoke execute on function %s from %s', motive.worker_functions(), role);
    execute format('revoke usage on schema motive from %s', role);
end
$$;
comment on function motive.revoke_worker(regrole) is
    'Takes back what motive.grant_worker() gave; a role that is to keep motive.grant_usage() needs that again';
revoke all on function motive.revoke_worker(regrole) from public;
