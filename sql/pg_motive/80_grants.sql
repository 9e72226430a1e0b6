-- Until somebody grants usage, nobody but the owner can execute or read anything. What a later part adds for users it
-- adds to both functions here.

-- API: public
create function motive.grant_usage(role regrole) returns void
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    home text;
begin
    select n.nspname into strict home
    from pg_catalog.pg_extension as e join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
    where e.extname = 'pg_motive';
    execute format('grant usage on schema motive to %s', role);
    execute format(
        'grant execute on function %1$I.classify_motive(text), %1$I.classify_motive(text[]), %1$I.classify_motives(text), '
        '%1$I.explain_motive(text), motive.classify_rows(text), motive.classify_batch(text[], text[]) to %2$s', home, role);
    execute format('grant select on motive.limits, motive.taxonomy, motive.models to %s', role);
    perform motive.grant_annotation(role);
end
$$;
comment on function motive.grant_usage(regrole) is
    'Lets a role classify texts and read taxonomy, models and limits; not the settings';
revoke all on function motive.grant_usage(regrole) from public;

-- API: public
create function motive.revoke_usage(role regrole) returns void
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    home text;
begin
    select n.nspname into strict home
    from pg_catalog.pg_extension as e join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
    where e.extname = 'pg_motive';
    execute format('revoke select on motive.limits, motive.taxonomy, motive.models from %s', role);
    execute format(
        'revoke execute on function %1$I.classify_motive(text), %1$I.classify_motive(text[]), %1$I.classify_motives(text), '
        '%1$I.explain_motive(text), motive.classify_rows(text), motive.classify_batch(text[], text[]) from %2$s', home, role);
    perform motive.revoke_annotation(role);
    execute format('revoke usage on schema motive from %s', role);
end
$$;
comment on function motive.revoke_usage(regrole) is 'Takes back what motive.grant_usage() gave';
revoke all on function motive.revoke_usage(regrole) from public;
