-- What users call lives in the extension's schema; all else lives in this one. Plain `create`: a schema of this name
-- that somebody has made before makes CREATE EXTENSION fail instead of being adopted.

-- API: public
create schema motive;
comment on schema motive is 'pg_motive: taxonomy, models, settings and annotation of tables';
revoke all on schema motive from public;

-- The numbers of sidecar/limits.py; a test keeps the two equal.
-- API: public
create view motive.limits (name, value, unit, meaning) as
values
    ('max_texts', 10000::bigint, 'texts', 'in one request to the sidecar; longer arrays are split'),
    ('max_text_bytes', 65536, 'bytes', 'of UTF-8 in one text; a longer one is refused, never cut'),
    ('max_message_bytes', 4194304, 'bytes', 'in one message between client and sidecar'),
    ('client_batch_texts', 256, 'texts', 'that the client puts into one request'),
    ('client_batch_bytes', 131072, 'bytes', 'of text that the client puts into one request'),
    ('default_deadline_ms', 5000, 'milliseconds', 'that one request may take, where motive.settings does not say otherwise');
comment on view motive.limits is 'Limits that a text or a call meets';
revoke all on motive.limits from public;
