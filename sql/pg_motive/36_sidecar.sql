-- What operators ask of the sidecar, from SQL: which model answers, what it computes on, and whether that can be asked.

-- API: public
create function motive.sidecar()
    returns table (model text, engine text, version text, ready boolean, release_error text,
                   backend text, breaker text, reason text, batches integer)
    language plpgsql volatile parallel unsafe security definer cost 1000
    set search_path to pg_catalog, pg_temp
as $$
declare
    terms motive.call_terms;
    answer motive.answer;
    context text;
    document jsonb;
begin
    select * into strict terms from motive.call_terms;
    begin
        answer := motive.call_get_model(terms.target, terms.files, terms.seconds);
    exception when external_routine_exception or datatype_mismatch then
        get stacked diagnostics context = pg_exception_context;
        answer := motive.broken_client(sqlstate, sqlerrm, context);
    end;
    answer := motive.checked(answer, false);
    document := answer.model::jsonb;
    return query
        select format('%s@%s/%s', document ->> 'name', document ->> 'version', left(document ->> 'digest', 8)),
               document ->> 'engine', document ->> 'server_version', (document ->> 'ready')::boolean,
               nullif(document ->> 'release_error', ''), nullif(e.b ->> 'address', ''), e.b ->> 'breaker',
               nullif(e.b ->> 'reason', ''), (e.b ->> 'batches')::integer
        from jsonb_array_elements(document -> 'backends') as e (b);
end
$$;
comment on function motive.sidecar() is
    'What the sidecar says of itself now, one row for each Triton address (or the embedded engine): its model, its readiness, the circuit breaker';
revoke all on function motive.sidecar() from public;
grant execute on function motive.sidecar() to pg_monitor;
