"""Who may do what with each object of the extension, against a golden file that a change must change on purpose."""

import os
from pathlib import Path

from tests.fixtures.postgres import Connection

GOLDEN = Path(__file__).parent / "privileges.txt"

QUERY = """
with member as (
    select d.classid, d.objid from pg_catalog.pg_depend d
    where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
      and d.refobjid = (select oid from pg_catalog.pg_extension where extname = 'pg_motive')
), held (kind, name, role, rights) as (
    select 'schema', n.nspname::text, r.role, array_to_string(array(
        select p from unnest(array['CREATE', 'USAGE']) p where has_schema_privilege(r.role, n.oid, p)), ' ')
    from member m join pg_namespace n on m.classid = 'pg_namespace'::regclass and n.oid = m.objid, role r
    union all
    select case c.relkind when 'v' then 'view' else 'table' end, c.oid::regclass::text, r.role, array_to_string(array(
        select p from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
        where has_table_privilege(r.role, c.oid, p)), ' ')
    from member m join pg_class c on m.classid = 'pg_class'::regclass and c.oid = m.objid, role r
    where c.relkind in ('r', 'v')
    union all
    select 'function', p.oid::regprocedure::text || case when p.prosecdef then ' [definer]' else '' end, r.role,
           case when has_function_privilege(r.role, p.oid, 'EXECUTE') then 'EXECUTE' else '' end
    from member m join pg_proc p on m.classid = 'pg_proc'::regclass and p.oid = m.objid, role r
)
select kind, name, string_agg(role || ': ' || case rights when '' then '-' else rights end, '; ' order by role)
from held group by kind, name order by kind, name collate "C"
"""


def test_privileges_equal_the_golden_file(connection: Connection, roles: tuple[str, str]) -> None:
    """F52: role by object. MOTIVE_WRITE_GOLDEN=1 writes the file anew."""
    names = ", ".join(f"('{role}')" for role in roles)
    rows = connection.execute("with role (role) as (values " + names + "), " + QUERY.strip().removeprefix("with "))
    found = "".join(f"{kind} {name}\n    {rights}\n" for kind, name, rights in rows)
    if os.environ.get("MOTIVE_WRITE_GOLDEN"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8")
