-- The tables of a task's life. Twin of the PostgreSQL migration of the same name, which explains them.
-- Times are milliseconds since the epoch on the database's clock; ids and sealed values are blobs.

-- The unfinished only; finishing moves the row to reveille_finished.
create table reveille_task (
  id                  blob    primary key,
  name                text    not null,
  queue               text    not null,
  origin              text    not null,
  batch               blob,
  state               text    not null check (state in ('ready', 'running', 'deferred')),
  priority            integer not null check (priority between 0 and 3),
  ready_at            integer,
  expires_at          integer,
  generation          integer not null,
  turn                integer not null,
  attempt             integer not null,
  crashes             integer not null,
  max_attempts        integer not null,
  backoff_ms          integer not null,
  backoff_cap_ms      integer not null,
  holder              blob,
  cancel_requested_at integer,
  dedupe              text,
  slot_key            text,
  slot_limit          integer,
  step                blob    not null,
  event               blob,
  progress            blob,
  trace               text,
  enqueued_at         integer not null
) strict;

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
  task_id             blob    primary key,
  generation          integer not null,
  kind                text    not null,
  passive             integer not null,
  queue               text    not null,
  priority            integer not null,
  spec                blob,
  since               integer not null,
  wake_at             integer,
  deadline_at         integer,
  -- It was given as a time of the calendar: a wait that is armed again keeps it.
  deadline_is_fixed   integer not null default 0,
  or_resume           integer not null,
  -- How many checks in a row may fail to tell; null: any number.
  error_budget        integer,
  holder              blob,
  -- How much has come under its keys, and how much of that its holder has been told of.
  arrivals            integer not null default 0,
  told                integer not null default 0,
  deaths              integer not null
) strict;

create index reveille_trigger_free     on reveille_trigger (queue, kind, priority, wake_at) where holder is null and passive = 0;
create index reveille_trigger_held     on reveille_trigger (holder) where holder is not null;
create index reveille_trigger_news     on reveille_trigger (holder) where arrivals > told;
create index reveille_trigger_due      on reveille_trigger (wake_at, task_id) where passive = 1 and wake_at is not null;
create index reveille_trigger_deadline on reveille_trigger (deadline_at) where deadline_at is not null;

-- One row for each signal or task in a wait. Where the wait looks at more than that, what has come is kept here, sealed.
create table reveille_wait_key (
  key                 text    not null,
  task_id             blob    not null,
  generation          integer not null,
  arrived             blob,
  primary key (key, task_id)
) strict;
create index reveille_wait_key_task    on reveille_wait_key (task_id);
create index reveille_wait_key_arrived on reveille_wait_key (task_id) where arrived is not null;

-- What the last checks of a trigger came to, told by its holder now and then. Nothing depends on it, and what is left of a
-- wait that is over is swept away later.
create table reveille_check (
  task_id             blob    primary key,
  generation          integer not null,
  who                 blob    not null,
  checks              integer not null,
  failures            integer not null,
  at                  integer not null,
  took_ms             integer not null,
  next_at             integer not null,
  said                blob
) strict;

-- Kept until it expires: untaken until a wait takes it, then only so that sending it twice is sending it once.
create table reveille_signal (
  id                  blob    primary key,
  key                 text    not null,
  event               blob    not null,
  sent_at             integer not null,
  expires_at          integer not null,
  taken_at            integer,
  delivered_to        blob
) strict;
create index reveille_signal_untaken on reveille_signal (key, sent_at, id) where taken_at is null or delivered_to is not null;
create index reveille_signal_expiry  on reveille_signal (expires_at);

-- "until" null: as long as the task is unfinished.
create table reveille_dedupe (
  name                text    not null,
  key                 text    not null,
  task_id             blob    not null,
  "until"             integer,
  primary key (name, key)
) strict;
create index reveille_dedupe_until on reveille_dedupe ("until") where "until" is not null;

-- Who is at work under a concurrency key. A limit is that no number is taken twice, never a count.
create table reveille_slot (
  key                 text    not null,
  n                   integer not null,
  task_id             blob    not null,
  primary key (key, n),
  unique (task_id)
) strict;

-- What a cancelled wait has yet to undo: leased, tried again and dead-lettered like a trigger.
create table reveille_undo (
  task_id             blob    not null,
  generation          integer not null,
  kind                text    not null,
  queue               text    not null,
  spec                blob    not null,
  since               integer not null,
  wake_at             integer not null,
  attempt             integer not null,
  holder              blob,
  dead_at             integer,
  primary key (task_id, generation)
) strict;
create index reveille_undo_free on reveille_undo (wake_at) where dead_at is null;

-- One row a process life and role. Renewing touches this table alone.
create table reveille_replica (
  incarnation         blob    primary key,
  role                text    not null check (role in ('triggerer', 'worker')),
  label               text    not null,
  version             text    not null,
  capacity            integer not null,
  running             integer not null,
  kinds               text    not null,
  queues              text    not null,
  joined_at           integer not null,
  seen_at             integer not null,
  lease_ms            integer not null,
  beat                integer not null,
  -- The session that its last renewal came by: SQLite has none.
  session_pid         integer,
  session_began_at    integer,
  gone_at             integer,
  gone_why            text    check (gone_why in ('left', 'lost'))
) strict;
create index reveille_replica_gone on reveille_replica (gone_at) where gone_at is not null;

create table reveille_queue (
  name                text    primary key,
  paused_at           integer
) strict;

-- Every set of kinds that a stored trigger was ever made of, joined by '+', so that a replica can tell which it has whole.
create table reveille_kind_set (
  kinds               text    primary key
) strict;

create table reveille_setting (
  name                text    primary key,
  value               blob    not null
) strict;

-- Dropped by age in bounded batches, but for the dead letters (day -1) and their history.
create table reveille_finished (
  day                 integer not null,
  id                  blob    not null,
  name                text    not null,
  queue               text    not null,
  origin              text    not null,
  batch               blob,
  state               text    not null check (state in ('succeeded', 'failed', 'skipped', 'cancelled')),
  priority            integer not null,
  generation          integer not null,
  turn                integer not null,
  attempt             integer not null,
  crashes             integer not null,
  max_attempts        integer not null,
  backoff_ms          integer not null,
  backoff_cap_ms      integer not null,
  dedupe              text,
  slot_key            text,
  slot_limit          integer,
  step                blob,
  event               blob,
  result              blob    not null,
  trace               text,
  enqueued_at         integer not null,
  finished_at         integer not null
) strict;
create index reveille_finished_age on reveille_finished (finished_at) where day >= 0;
create index reveille_finished_id on reveille_finished (id);

create table reveille_history (
  day                 integer not null,
  task_id             blob    not null,
  at                  integer not null,
  generation          integer not null,
  turn                integer not null,
  attempt             integer not null,
  was                 text,
  became              text    not null,
  why                 text    not null,
  event               blob,
  who                 blob
) strict;
create index reveille_history_age  on reveille_history (at) where day >= 0;
create index reveille_history_task on reveille_history (task_id, generation);
