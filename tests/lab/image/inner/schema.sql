-- The part of nailgun's schema that the lab answers from, and keystone's users.
create role nailgun login password '@NAILGUN_PASSWORD@';
create database nailgun owner nailgun;
create database keystone owner nailgun;
\c nailgun
set role nailgun;
create table clusters (id serial primary key, name text not null, status text not null default 'operational');
create table nodes (id serial primary key, uuid text not null, name text not null, mac text not null, cluster_id int references clusters, online boolean not null default true);
create table tasks (id serial primary key, cluster_id int references clusters, uuid text not null, name text not null,
  result text not null default '{}', message text not null default '', status text not null, progress int not null default 0);
insert into clusters (name) values ('prod');
insert into nodes (uuid, name, mac, cluster_id)
  select 'node-uuid-' || n, 'Untitled (' || n || ')', '52:54:00:00:00:0' || n, 1 from generate_series(1, 5) n;
reset role;
create table seq (n bigint primary key, pad text);
\c keystone
set role nailgun;
create table users (name text primary key, password text not null);
insert into users values ('admin', '@ACCESS_PASSWORD@');
