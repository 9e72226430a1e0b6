-- Direct calls need PL/Python. Here they go to a gateway, a database elsewhere that has the extension, through dblink
-- and a foreign server; without one they say so.

-- API: private
create table motive.gateway (
    only_row boolean primary key default true check (only_row),
    server name not null
);
comment on table motive.gateway is 'One row or none: the foreign server of a database that has the extension pg_motive';
revoke all on motive.gateway from public;

-- API: private
create function motive.ask_gateway(query text) returns text
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    dblink_schema name := (select n.nspname from pg_extension as e join pg_namespace as n on n.oid = e.extnamespace where e.extname = 'dblink');
    server name := (select g.server from motive.gateway as g);
    answer text;
begin
    if server is null or dblink_schema is null then
        raise exception using
            errcode = 'feature_not_supported',
            message = 'this database has pg_motive without PL/Python: it cannot call the model directly',
            hint = 'Attach the table, and a worker annotates it; or name a gateway in motive.gateway, and create extension dblink.';
    end if;
    execute format('select a.answer from %I.dblink($1, $2) as a (answer text)', dblink_schema) into answer using server::text, query;
    return answer;
end
$$;
comment on function motive.ask_gateway(text) is 'One value from the gateway database';
revoke all on function motive.ask_gateway(text) from public;

-- API: public
create function public.classify_motive(body text) returns text
    language plpgsql volatile strict parallel unsafe security definer cost 10000
    set search_path to pg_catalog, pg_temp
as $$ begin return motive.ask_gateway(format('select classify_motive(%L)', body)); end $$;
comment on function public.classify_motive(text) is 'The purchase motive of a text, asked of the gateway';
revoke all on function public.classify_motive(text) from public;

-- API: public
create function public.classify_motive(bodies text[]) returns text[]
    language plpgsql volatile strict parallel unsafe security definer cost 10000
    set search_path to pg_catalog, pg_temp
as $$ begin return motive.ask_gateway(format('select classify_motive(%L::text[])', bodies))::text[]; end $$;
comment on function public.classify_motive(text[]) is 'The purchase motive of each text, in order, asked of the gateway';
revoke all on function public.classify_motive(text[]) from public;
