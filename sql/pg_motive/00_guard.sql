\echo Use "CREATE EXTENSION pg_motive" to load this file. \quit

-- Every name below is schema-qualified; operators come from pg_catalog alone.
set local search_path to pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.current_setting('server_version_num')::integer < 150000 then
        raise exception using
            errcode = 'feature_not_supported',
            message = pg_catalog.format('pg_motive needs PostgreSQL 15 or newer; this is %s', pg_catalog.current_setting('server_version'));
    end if;
end
$$;

-- Texts of other encodings do not all have a counterpart in a server encoding other than UTF8, and SQL_ASCII does not
-- say what its bytes mean: better to refuse now than to fail at the first Chinese text.
do $$
begin
    if pg_catalog.getdatabaseencoding() <> 'UTF8' then
        raise exception using
            errcode = 'feature_not_supported',
            message = pg_catalog.format('pg_motive needs a database with encoding UTF8; this one has %s',
                                        pg_catalog.getdatabaseencoding()),
            hint = 'Create a database with encoding ''UTF8'' template template0, and move the texts there.';
    end if;
end
$$;
