-- The tables of a task's life. Twin of the SQLite migration of the same name.
-- Times are bigint milliseconds since the epoch on the database's clock; sealed values are bytea.
-- No foreign keys between hot tables: a key share lock on a hot parent turns into a MultiXact.

-- The unfinished only; finishing moves the row to reveille_finished.
create table reveille_task (
  id                  uuid     primary key,
  name                text     not null,
  queue               text     not null,
  origin              text     not null,
  batch               uuid,
  state               text     not null check (state in ('ready', 'running', 'deferred')),
  priority            smallint not null check (priority between 0 and 3),
  ready_at            bigint,
  expires_at          bigint,
  generation          integer  not null,
  turn                integer  not null,
  attempt             integer  not null,
  crashes             integer  not null,
  max_attempts        integer  not null,
  backoff_ms          bigint   not null,
  backoff_cap_ms      bigint   not null,
  holder              uuid,
  cancel_requested_at bigint,
  dedupe              text,
  slot_key            text,
  slot_limit          integer,
  step                bytea    not null,
  event               bytea,
  progress            bytea,
  trace               text,
  enqueued_at         bigint   not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What claims walk: one range a queue, name and priority, oldest first. Rows that cannot run are not in it.
create index reveille_task_ready  on reveille_task (queue, name, priority, ready_at) where state = 'ready';
create index reveille_task_held   on reveille_task (holder) where holder is not null;
create index reveille_task_expiry on reveille_task (expires_at) where expires_at is not null;
create index reveille_task_batch  on reveille_task (batch) where batch is not null;
-- What is ready, or waits for a slot, under a concurrency key: those that come first first.
create index reveille_task_slot   on reveille_task (slot_key, state, priority desc, ready_at, id)
  where slot_key is not null and ready_at is not null;

-- One row a waiting task, named by task and generation everywhere. It exists only while the task waits on it.
create table reveille_trigger (
  task_id     uuid     primary key,
  generation  integer  not null,
  kind        text     not null,
  passive     boolean  not null,
  queue       text     not null,
  priority    smallint not null,
  spec        bytea,
  since       bigint   not null,
  wake_at     bigint,
  deadline_at bigint,
  -- It was given as a time of the calendar: a wait that is armed again keeps it.
  deadline_is_fixed boolean not null default false,
  or_resume   boolean  not null,
  -- How many checks in a row may fail to tell; null: any number.
  error_budget integer,
  holder      uuid,
  -- How much has come under its keys, and how much of that its holder has been told of.
  arrivals    integer  not null default 0,
  told        integer  not null default 0,
  deaths      integer  not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

create index reveille_trigger_free     on reveille_trigger (queue, kind, priority, wake_at) where holder is null and not passive;
create index reveille_trigger_held     on reveille_trigger (holder) where holder is not null;
create index reveille_trigger_news     on reveille_trigger (holder) where arrivals > told;
create index reveille_trigger_due      on reveille_trigger (wake_at, task_id) where passive and wake_at is not null;
create index reveille_trigger_deadline on reveille_trigger (deadline_at) where deadline_at is not null;

-- One row for each signal or task in a wait. Where the wait looks at more than that, what has come is kept here, sealed.
create table reveille_wait_key (
  key        text    not null,
  task_id    uuid    not null,
  generation integer not null,
  arrived    bytea,
  primary key (key, task_id)
);
create index reveille_wait_key_task    on reveille_wait_key (task_id);
create index reveille_wait_key_arrived on reveille_wait_key (task_id) where arrived is not null;

-- What the last checks of a trigger came to, told by its holder now and then. Nothing depends on it, and what is left of a
-- wait that is over is swept away later.
create table reveille_check (
  task_id    uuid    primary key,
  generation integer not null,
  who        uuid    not null,
  checks     bigint  not null,
  failures   integer not null,
  at         bigint  not null,
  took_ms    bigint  not null,
  next_at    bigint  not null,
  said       bytea
) with (fillfactor = 70);

-- Kept until it expires: untaken until a wait takes it, then only so that sending it twice is sending it once.
create table reveille_signal (
  id           uuid   primary key,
  key          text   not null,
  event        bytea  not null,
  sent_at      bigint not null,
  expires_at   bigint not null,
  taken_at     bigint,
  delivered_to uuid
);
create index reveille_signal_untaken on reveille_signal (key, sent_at, id) where taken_at is null or delivered_to is not null;
create index reveille_signal_expiry  on reveille_signal (expires_at);

-- "until" null: as long as the task is unfinished.
create table reveille_dedupe (
  name    text   not null,
  key     text   not null,
  task_id uuid   not null,
  "until" bigint,
  primary key (name, key)
);
create index reveille_dedupe_until on reveille_dedupe ("until") where "until" is not null;

-- Who is at work under a concurrency key. A limit is that no number is taken twice, never a count.
create table reveille_slot (
  key     text    not null,
  n       integer not null,
  task_id uuid    not null,
  primary key (key, n),
  unique (task_id)
);

-- What a cancelled wait has yet to undo: leased, tried again and dead-lettered like a trigger.
create table reveille_undo (
  task_id    uuid    not null,
  generation integer not null,
  kind       text    not null,
  queue      text    not null,
  spec       bytea   not null,
  since      bigint  not null,
  wake_at    bigint  not null,
  attempt    integer not null,
  holder     uuid,
  dead_at    bigint,
  primary key (task_id, generation)
);
create index reveille_undo_free on reveille_undo (wake_at) where dead_at is null;

-- One row a process life and role. Renewing touches this table alone.
create table reveille_replica (
  incarnation uuid    primary key,
  role        text    not null check (role in ('triggerer', 'worker')),
  label       text    not null,
  version     text    not null,
  capacity    integer not null,
  running     integer not null,
  kinds       text    not null,
  queues      text    not null,
  joined_at   bigint  not null,
  seen_at     bigint  not null,
  lease_ms    bigint  not null,
  beat        bigint  not null,
  -- The session that its last renewal came by, if that is its own: none behind a pooler.
  session_pid      integer,
  session_began_at bigint,
  gone_at     bigint,
  gone_why    text    check (gone_why in ('left', 'lost'))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
create index reveille_replica_gone on reveille_replica (gone_at) where gone_at is not null;

create table reveille_queue (
  name      text primary key,
  paused_at bigint
);

-- Every set of kinds that a stored trigger was ever made of, joined by '+', so that a replica can tell which it has whole.
create table reveille_kind_set (
  kinds text primary key
);

create table reveille_setting (
  name  text primary key,
  value bytea not null
);

-- Finished tasks and history lie in a ring of 32 days, dropped by truncating a day; -1 keeps the dead letters and
-- their history until they are redriven or purged.
create table reveille_finished (
  day            smallint not null,
  id             uuid     not null,
  name           text     not null,
  queue          text     not null,
  origin         text     not null,
  batch          uuid,
  state          text     not null check (state in ('succeeded', 'failed', 'skipped', 'cancelled')),
  priority       smallint not null,
  generation     integer  not null,
  turn           integer  not null,
  attempt        integer  not null,
  crashes        integer  not null,
  max_attempts   integer  not null,
  backoff_ms     bigint   not null,
  backoff_cap_ms bigint   not null,
  dedupe         text,
  slot_key       text,
  slot_limit     integer,
  step           bytea,
  event          bytea,
  result         bytea    not null,
  trace          text,
  enqueued_at    bigint   not null,
  finished_at    bigint   not null
) partition by list (day);
create index reveille_finished_id on reveille_finished (id);

create table reveille_history (
  day        smallint not null,
  task_id    uuid     not null,
  at         bigint   not null,
  generation integer  not null,
  turn       integer  not null,
  attempt    integer  not null,
  was        text,
  became     text     not null,
  why        text     not null,
  event      uuid,
  who        uuid
) partition by list (day);
create index reveille_history_task on reveille_history (task_id, generation);

do $$
begin
  for day in -1..31 loop
    execute format('create table %I partition of reveille_finished for values in (%s) with (autovacuum_vacuum_scale_factor = 0.1)',
                   'reveille_finished_' || case day when -1 then 'dead' else lpad(day::text, 2, '0') end, day);
    execute format('create table %I partition of reveille_history for values in (%s) with (autovacuum_vacuum_insert_scale_factor = 0.5)',
                   'reveille_history_' || case day when -1 then 'dead' else lpad(day::text, 2, '0') end, day);
  end loop;
end
$$;
