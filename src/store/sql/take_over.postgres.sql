-- Takes triggers from holders that are gone, old holder to new in one write.
--  $1 queues (null: all)  $2 kind sets  $3 me  $4 how many  $5 set aside
-- What a holder left is walked as a range of the index, in its order: see docs/decisions/0023.
-- Its transaction is marked as under way by a lock, which `held` waits for.
with left_behind as materialized (
       select c.task_id, g.gone_why
         from (select incarnation, gone_why from reveille_replica where gone_at is not null and role = 'triggerer') g,
              lateral (select t.task_id
                         from reveille_trigger t
                        where t.holder between g.incarnation and g.incarnation and t.task_id <> all($5::uuid[])
                          and t.kind = any($2) and ($1::text[] is null or t.queue = any($1))
                        order by t.holder
                        limit $4
                          for update skip locked) c
        limit $4)
update reveille_trigger t
   set holder = $3, deaths = t.deaths + (l.gone_why = 'lost')::integer
  from left_behind l
 where t.task_id = l.task_id
   and exists (select 1 from reveille_replica r where r.incarnation = $3 and r.gone_at is null)
   and (select pg_try_advisory_xact_lock(uuid_hash_extended($3, 0)))
returning t.task_id, t.generation, t.kind, t.spec, t.since, t.wake_at, t.deadline_at, t.deaths, t.error_budget, t.arrivals, true as inherited
