-- Counts what can be leased: free active triggers that are due for a look, and what holders that are gone left behind.
--  $1 queues (null: all)  $2 kind sets  $3 now  $4 up to how many of each  $5 set aside
-- Walks the index ranges that the lease and the take-over walk.
select (select count(*)
          from (select
                  from generate_series(3, 0, -1) as p(priority),
                       reveille_queue q,
                       unnest($2::text[]) as s(kind),
                       lateral (select
                                  from reveille_trigger t
                                 where t.queue = q.name and t.kind = s.kind and t.priority = p.priority::smallint
                                   and t.holder is null and not t.passive and t.wake_at <= $3
                                   and t.task_id <> all($5::uuid[])
                                 limit $4) r
                 where $1::text[] is null or q.name = any($1)
                 limit $4) due)
     + (select count(*)
          from (select
                  from (select incarnation from reveille_replica where gone_at is not null and role = 'triggerer') g,
                       lateral (select
                                  from reveille_trigger t
                                 where t.holder between g.incarnation and g.incarnation and t.task_id <> all($5::uuid[]) and t.kind = any($2)
                                   and ($1::text[] is null or t.queue = any($1))
                                 order by t.holder
                                 limit $4) r
                 limit $4) gone)
