-- The peers of classify_motive, for the bench alone: how others reach a model from SQL.

-- name: pipeline
-- PostgresML's way: the transformers pipeline lives in each backend. {packages} and {model} are paths.
create or replace function bench_pipeline(body text) returns text language plpython3u as $$
import sys
if '{packages}' not in sys.path: sys.path.append('{packages}')
from transformers import pipeline
if 'pipeline' not in GD: GD['pipeline'] = pipeline('text-classification', model='{model}', device='cpu', truncation=True)
return GD['pipeline'](body)[0]['label']
$$;

-- name: http
-- A web service around the same pipeline, called with a connection kept alive. {port} is its port.
create or replace function bench_http(body text) returns text language plpython3u as $$
import http.client, json
if 'http' not in SD: SD['http'] = http.client.HTTPConnection('127.0.0.1', {port})
SD['http'].request('POST', '/classify', json.dumps({{'text': body}}), {{'content-type': 'application/json'}})
return json.loads(SD['http'].getresponse().read())['motive']
$$;
