-- The only functions in PL/Python: each hands its arguments to the client that `motive install` has put beside the
-- server's libraries, where it is found from the running executable, so that no setting can name another one.
-- PARALLEL UNSAFE throughout: PL/Python's SPI calls open subtransactions, which parallel workers must not.

-- API: private
create type motive.answer as (
    motives text[],          -- '' stands for abstention
    confidences real[],      -- of explanations: weights
    starts integer[],        -- of explanations: first character, from 0
    stops integer[],         -- of explanations: the character after the last
    model text,              -- name@version/digest8
    taxonomy_digest bytea,
    position integer,        -- of a fault: which text, from 1; null or 0: no one in particular
    sqlstate text,           -- of a fault; null where there is none
    message text,
    hint text,
    detail text              -- the request's id, of several the last one's, as the sidecar's log has it
);
comment on type motive.answer is 'What the client gives back: an answer, or a fault as a value';

-- API: private
create function motive.call_classify(texts text[], every boolean, target text, files text[], seconds float8) returns motive.answer
    language plpython3u stable parallel unsafe cost 1000
    set search_path to pg_catalog, pg_temp
as $$
import os, sys
if 'sidecar' not in sys.modules:
    sys.path.insert(0, os.path.join(os.path.realpath('/proc/self/exe').rpartition('/bin/')[0], 'lib/pg_motive/python'))
from sidecar import client
return client.classify(plpy, 1, texts, every, target, files, seconds)
$$;
comment on function motive.call_classify(text[], boolean, text, text[], float8) is
    'Sends texts to the sidecar: the first motive of each, or every motive of the only one';
revoke all on function motive.call_classify(text[], boolean, text, text[], float8) from public;

-- API: private
create function motive.call_explain(body text, target text, files text[], seconds float8) returns motive.answer
    language plpython3u stable parallel unsafe cost 1000
    set search_path to pg_catalog, pg_temp
as $$
import os, sys
if 'sidecar' not in sys.modules:
    sys.path.insert(0, os.path.join(os.path.realpath('/proc/self/exe').rpartition('/bin/')[0], 'lib/pg_motive/python'))
from sidecar import client
return client.explain(plpy, 1, body, target, files, seconds)
$$;
comment on function motive.call_explain(text, text, text[], float8) is
    'Asks the sidecar which words carried the motives of a text';
revoke all on function motive.call_explain(text, text, text[], float8) from public;

-- API: private
create function motive.call_get_model(target text, files text[], seconds float8) returns motive.answer
    language plpython3u stable parallel unsafe cost 1000
    set search_path to pg_catalog, pg_temp
as $$
import os, sys
if 'sidecar' not in sys.modules:
    sys.path.insert(0, os.path.join(os.path.realpath('/proc/self/exe').rpartition('/bin/')[0], 'lib/pg_motive/python'))
from sidecar import client
return client.get_model(plpy, 1, target, files, seconds)
$$;
comment on function motive.call_get_model(text, text[], float8) is
    'Asks the sidecar which model it serves; the answer''s model is a JSON document';
revoke all on function motive.call_get_model(text, text[], float8) from public;

-- What is left when Python itself fails: the client is not installed, gives back more or fewer fields than this
-- version's answer has, or has a defect. The user gets a sentence, the server's log the traceback.
-- API: private
create function motive.broken_client(code text, error text, context text) returns motive.answer
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    unfit boolean := code = '42804' or error ~ '^(ModuleNotFound|Import)Error';
begin
    raise log 'pg_motive''s client failed: %', context;
    return row(
        null, null, null, null, null, null, null,
        case when unfit then '55000' else 'XX000' end,
        format('the client failed: %s', left(error, 200)),
        case when unfit then 'Run motive install and ALTER EXTENSION pg_motive UPDATE, then open a new session; motive check shows what is wrong.'
             else 'The server''s log says where; please report it.' end,
        'Raised by Python in the backend.'
    )::motive.answer;
end
$$;
comment on function motive.broken_client(text, text, text) is 'The fault for an error that the client did not expect';
revoke all on function motive.broken_client(text, text, text) from public;

-- The last gate before SQL: raises a fault, refuses a label that its model's taxonomy does not hold, and puts the
-- taxonomy's abstention code where the client left ''.
-- API: private
create function motive.checked(answer motive.answer, one_of_many boolean) returns motive.answer
    language plpgsql stable parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    codes text[];
    abstention_code text;
    stranger text;
    named text[] := answer.motives;
begin
    if answer.sqlstate is not null then
        raise exception using
            errcode = answer.sqlstate,
            message = case when one_of_many and answer.position > 0 then format('text %s: ', answer.position) else '' end
                      || answer.message,
            detail = answer.detail,
            hint = answer.hint;
    end if;
    if answer.taxonomy_digest is null then -- every text was NULL
        return answer;
    end if;
    select array_agg(t.code), min(t.code) filter (where t.abstention) into codes, abstention_code
    from motive.taxonomies as t where t.digest = answer.taxonomy_digest;
    if codes is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('the sidecar serves model %s, whose taxonomy is not loaded in this database', answer.model),
            detail = answer.detail,
            hint = 'As the owner of the extension: select motive.load_model();';
    end if;
    named := array_replace(named, '', abstention_code);
    if not array_remove(named, null) <@ codes then
        select quote_literal(left(m, 63)) into stranger from unnest(named) as m where m <> all (codes) limit 1;
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('model %s answered %s, which its taxonomy does not hold', answer.model, stranger),
            detail = answer.detail,
            hint = 'Export the model again from the taxonomy it was trained for.';
    end if;
    answer.motives := named;
    return answer;
end
$$;
comment on function motive.checked(motive.answer, boolean) is 'The answer, or its fault raised; refuses labels that the model''s taxonomy does not hold';
revoke all on function motive.checked(motive.answer, boolean) from public;

-- API: private
create function motive.classify_texts(texts text[], every boolean) returns motive.answer
    language plpgsql stable parallel unsafe cost 1000
    set search_path to pg_catalog, pg_temp
as $$
declare
    terms motive.call_terms;
    answer motive.answer;
    context text;
begin
    select * into strict terms from motive.call_terms;
    begin
        answer := motive.call_classify(texts, every, terms.target, terms.files, terms.seconds);
    exception when external_routine_exception or datatype_mismatch then
        get stacked diagnostics context = pg_exception_context;
        answer := motive.broken_client(sqlstate, sqlerrm, context);
    end;
    return motive.checked(answer, cardinality(texts) > 1);
end
$$;
comment on function motive.classify_texts(text[], boolean) is 'The checked answer for many texts, or with every motive for one';
revoke all on function motive.classify_texts(text[], boolean) from public;

-- API: private
create function motive.load_model() returns text
    language plpgsql volatile parallel unsafe cost 1000
    set search_path to pg_catalog, pg_temp
as $$
declare
    terms motive.call_terms;
    answer motive.answer;
    context text;
begin
    select * into strict terms from motive.call_terms;
    begin
        answer := motive.call_get_model(terms.target, terms.files, terms.seconds);
    exception when external_routine_exception or datatype_mismatch then
        get stacked diagnostics context = pg_exception_context;
        answer := motive.broken_client(sqlstate, sqlerrm, context);
    end;
    answer := motive.checked(answer, false);
    return motive.register_model(answer.model::jsonb);
end
$$;
comment on function motive.load_model() is
    'Loads the model that the sidecar serves, with its taxonomy, into this database; returns name@version/digest8';
revoke all on function motive.load_model() from public;
