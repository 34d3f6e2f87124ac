-- Leases free active triggers that are due for a look: by priority, then by the time that they are due.
--  $1 queues (null: all)  $2 kind sets  $3 me  $4 now  $5 how many  $6 set aside
-- Walks one index range a priority, queue and kind set, looks ahead and locks late, for the reasons given at claim;
-- dormant rows lie at the far end of their range.
-- Its transaction is marked as under way by a lock, which `held` waits for.
with first as materialized (
       select c.task_id
         from generate_series(3, 0, -1) as p(priority),
              lateral (select r.task_id, r.wake_at
                         from reveille_queue q,
                              unnest($2::text[]) as s(kind),
                              lateral (select t.task_id, t.wake_at
                                         from reveille_trigger t
                                        where t.queue = q.name and t.kind = s.kind and t.priority = p.priority::smallint
                                          and t.holder is null and not t.passive and t.wake_at <= $4
                                          and t.task_id <> all($6::uuid[])
                                        order by t.wake_at
                                        limit $5 * 2 + 100) r
                        where $1::text[] is null or q.name = any($1)
                        order by r.wake_at
                        limit $5 * 2 + 100) c
        limit $5 * 2 + 100),
     due as materialized (
       select t.task_id
         from first f,
              lateral (select t.task_id
                         from reveille_trigger t
                        where t.task_id = f.task_id and t.holder is null and t.wake_at <= $4
                          for update skip locked) t
        limit $5)
update reveille_trigger t
   set holder = $3
  from due
 where t.task_id = due.task_id
   and exists (select 1 from reveille_replica r where r.incarnation = $3 and r.gone_at is null)
   and (select pg_try_advisory_xact_lock(uuid_hash_extended($3, 0)))
returning t.task_id, t.generation, t.kind, t.spec, t.since, t.wake_at, t.deadline_at, t.deaths, t.error_budget, t.arrivals
