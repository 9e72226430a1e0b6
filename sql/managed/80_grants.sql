-- API: public
create function motive.grant_usage(role regrole) returns void
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    execute format('grant usage on schema motive to %s', role);
    execute format('grant execute on function public.classify_motive(text), public.classify_motive(text[]) to %s', role);
    execute format('grant select on motive.limits, motive.taxonomy, motive.models to %s', role);
    perform motive.grant_annotation(role);
end
$$;
comment on function motive.grant_usage(regrole) is 'Lets a role annotate its tables and read taxonomy, models and limits';
revoke all on function motive.grant_usage(regrole) from public;

-- API: public
create function motive.revoke_usage(role regrole) returns void
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    perform motive.revoke_annotation(role);
    execute format('revoke select on motive.limits, motive.taxonomy, motive.models from %s', role);
    execute format('revoke execute on function public.classify_motive(text), public.classify_motive(text[]) from %s', role);
    execute format('revoke usage on schema motive from %s', role);
end
$$;
comment on function motive.revoke_usage(regrole) is 'Takes back what motive.grant_usage() gave';
revoke all on function motive.revoke_usage(regrole) from public;
