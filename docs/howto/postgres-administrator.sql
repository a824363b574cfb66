-- The administrator that Daypass uses on one PostgreSQL server (15 or later). It is not a superuser.
-- Run as a superuser, connected to the database that the target's url names.
-- Change the password, and the names orders_owner and orders_readers, to yours.

create role daypass login createrole password 'change-me';

-- Sessions end with their lease.
grant pg_signal_backend to daypass;

-- A Daypass that starts while leases hold all connections still gets in (16 and later; it uses up to 10). It needs
-- "alter system set reserved_connections = 10" and a restart of the server as well.
do $$
begin
  if current_setting('server_version_num')::int >= 160000 then
    execute 'grant pg_use_reserved_connections to daypass';
  end if;
end
$$;

-- `grants` of a role: Daypass can give only what it holds with grant option. Membership in the role that owns the
-- tables is the short way, and `future: true` needs it. Without that, grant single privileges instead:
--   grant select on all tables in schema public to daypass with grant option;
do $$
begin
  if current_setting('server_version_num')::int >= 160000 then
    execute 'grant orders_owner to daypass with inherit true, set false, admin false';
  else
    execute 'grant orders_owner to daypass';
  end if;
end
$$;

-- `in_role: [orders_readers]` of a role: Daypass hands out membership in this role.
do $$
begin
  if current_setting('server_version_num')::int >= 160000 then
    execute 'grant orders_readers to daypass with admin true, inherit false, set false';
  else
    execute 'grant orders_readers to daypass with admin option';
  end if;
end
$$;

-- `owner: orders_owner` of a role that changes the schema: Daypass hands out membership in the owner.
do $$
begin
  if current_setting('server_version_num')::int >= 160000 then
    execute 'grant orders_owner to daypass with admin true';
  else
    execute 'grant orders_owner to daypass with admin option';
  end if;
end
$$;
