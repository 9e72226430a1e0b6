-- What users call. STABLE, so that a view's unused column is never computed and a filter runs before a join's other
-- side multiplies the rows; never IMMUTABLE, since another model answers otherwise. SECURITY DEFINER, because callers
-- may not read the settings: they see a text and give back a label. The cost says that one call is worth many
-- comparisons, and stays low enough that a few thousand rows do not have the plan compiled by JIT.

-- API: public
create function @extschema@.classify_motive(body text) returns text
    language plpgsql stable strict parallel unsafe cost 1000 security definer
    set search_path to pg_catalog, pg_temp
as $$
begin
    return (motive.classify_texts(array[body], false)).motives[1];
end
$$;
comment on function @extschema@.classify_motive(text) is
    'The purchase motive of a text, as a code of motive.taxonomy; unknown where none is stated';
revoke all on function @extschema@.classify_motive(text) from public;

-- API: public
create function @extschema@.classify_motive(bodies text[]) returns text[]
    language plpgsql stable strict parallel unsafe cost 10000 security definer
    set search_path to pg_catalog, pg_temp
as $$
begin
    if array_ndims(bodies) > 1 then
        raise exception using
            errcode = 'array_subscript_error',
            message = format('the array has %s dimensions', array_ndims(bodies)),
            hint = 'Give an array of one dimension.';
    end if;
    return (motive.classify_texts(bodies, false)).motives;
end
$$;
comment on function @extschema@.classify_motive(text[]) is
    'The purchase motive of each text, in order; NULL for NULL';
revoke all on function @extschema@.classify_motive(text[]) from public;

-- API: public
create function @extschema@.classify_motives(body text) returns table (motive text, confidence real)
    language plpgsql stable strict parallel unsafe cost 1000 rows 2 security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    answer motive.answer := motive.classify_texts(array[body], true);
begin
    return query select * from unnest(answer.motives, answer.confidences);
end
$$;
comment on function @extschema@.classify_motives(text) is
    'Every motive of a text over its threshold with its calibrated probability, best first; one row unknown where there is none';
revoke all on function @extschema@.classify_motives(text) from public;

-- API: public
create function @extschema@.explain_motive(body text)
    returns table (motive text, evidence text, start integer, stop integer, weight real)
    language plpgsql stable strict parallel unsafe cost 10000 rows 5 security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    terms motive.call_terms;
    answer motive.answer;
    context text;
begin
    select * into strict terms from motive.call_terms;
    begin
        answer := motive.call_explain(body, terms.target, terms.files, terms.seconds);
    exception when external_routine_exception or datatype_mismatch then
        get stacked diagnostics context = pg_exception_context;
        answer := motive.broken_client(sqlstate, sqlerrm, context);
    end;
    answer := motive.checked(answer, false);
    return query
        select e.motive, substr(body, e.start + 1, e.stop - e.start), e.start + 1, e.stop + 1, e.weight
        from unnest(answer.motives, answer.starts, answer.stops, answer.confidences) as e (motive, start, stop, weight);
end
$$;
comment on function @extschema@.explain_motive(text) is
    'The words that carried each motive; start and stop count characters of the text from 1, stop exclusive';
revoke all on function @extschema@.explain_motive(text) from public;

-- API: private
create function motive.classify_batch(keys text[], texts text[]) returns table (key text, motive text, confidence real)
    language plpgsql stable strict parallel unsafe cost 10000 rows 1000 security definer
    set search_path to pg_catalog, pg_temp
as $$
declare
    terms motive.call_terms;
    answer motive.answer;
    context text;
begin
    select * into strict terms from motive.call_terms;
    begin
        answer := motive.call_classify(texts, false, terms.target, terms.files, terms.seconds);
    exception when external_routine_exception or datatype_mismatch then
        get stacked diagnostics context = pg_exception_context;
        answer := motive.broken_client(sqlstate, sqlerrm, context);
    end;
    if answer.position > 0 then
        raise exception using
            errcode = answer.sqlstate,
            message = format('the row with key %L: %s', keys[answer.position], answer.message),
            detail = answer.detail,
            hint = answer.hint;
    end if;
    answer := motive.checked(answer, false);
    return query select * from unnest(keys, answer.motives, answer.confidences);
end
$$;
comment on function motive.classify_batch(text[], text[]) is
    'A batch of motive.classify_rows; an error names the key of its row';
revoke all on function motive.classify_batch(text[], text[]) from public;

-- Runs with the caller's rights and the caller's search path, which its query is written for: no `set search_path`,
-- and every function and operator named with its schema.
-- API: public
create function motive.classify_rows(query text) returns table (key text, motive text, confidence real)
    language plpgsql volatile strict parallel unsafe cost 10000 rows 1000 security invoker
as $$
declare
    batch_rows constant integer := 4096;
    batch_bytes constant integer := 4194304;
    -- The line breaks keep a comment at the query's end from swallowing what follows.
    statement constant text := pg_catalog.concat(
        'select q.k::pg_catalog.text, q.t::pg_catalog.text from (', E'\n',
        pg_catalog.rtrim(query, E' \t\r\n;'), E'\n', ') as q (k, t)');
    row_key text;
    row_text text;
    keys text[] := '{}';
    texts text[] := '{}';
    bytes bigint := 0;
begin
    for row_key, row_text in execute statement loop
        keys := pg_catalog.array_append(keys, row_key);
        texts := pg_catalog.array_append(texts, row_text);
        bytes := bytes operator(pg_catalog.+) coalesce(pg_catalog.octet_length(row_text), 0);
        if pg_catalog.cardinality(keys) operator(pg_catalog.>=) batch_rows
            or bytes operator(pg_catalog.>=) batch_bytes
        then
            return query select b.key, b.motive, b.confidence from motive.classify_batch(keys, texts) as b;
            keys := '{}';
            texts := '{}';
            bytes := 0;
        end if;
    end loop;
    return query select b.key, b.motive, b.confidence from motive.classify_batch(keys, texts) as b;
end
$$;
comment on function motive.classify_rows(text) is
    'Runs a query of two columns, a key and a text, with the caller''s rights and search path, and names the motive of every row, in batches';
revoke all on function motive.classify_rows(text) from public;
