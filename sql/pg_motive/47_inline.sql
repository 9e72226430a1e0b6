-- API: private
create function motive.check_mode(mode text) returns void
    language plpgsql stable parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    if mode = 'inline' then
        raise exception using
            errcode = 'feature_not_supported',
            message = 'mode inline is not there yet',
            hint = 'Use mode => ''queued''.';
    end if;
end
$$;
comment on function motive.check_mode(text) is 'Refuses a mode that this installation cannot serve';
revoke all on function motive.check_mode(text) from public;
-- API: private
create function motive.create_inline_triggers(attachment integer, target regclass, mode text) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$ begin end $$;
comment on function motive.create_inline_triggers(integer, regclass, text) is 'Puts the triggers of inline mode on a table, or removes them';
revoke all on function motive.create_inline_triggers(integer, regclass, text) from public;
