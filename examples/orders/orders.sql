-- The database of the example. Run in the database orders, as a superuser.
create role orders_owner;
create role orders_readers;
alter schema public owner to orders_owner;

set role orders_owner;
create table orders (id int primary key, item text not null, price numeric not null);
insert into orders values (1, 'anvil', 120.00), (2, 'rope', 8.50), (3, 'magnet', 31.20);
reset role;
