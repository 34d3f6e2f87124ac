-- Leases free active triggers that are due for a look.
--  $1 queues as a JSON array (null: all)  $2 kind sets as a JSON array  $3 me  $4 now  $5 how many  $6 set aside, as a JSON array of hexadecimal ids
-- A correlated list in the place of lateral, as at claim.
update reveille_trigger
   set holder = $3
 where exists (select 1 from reveille_replica r where r.incarnation = $3 and r.gone_at is null)
   and task_id in (select t.task_id
                     from (select 3 as priority union all select 2 union all select 1 union all select 0) p
                          cross join reveille_queue q
                          cross join json_each($2) s
                          cross join reveille_trigger t
                       on t.rowid in (select x.rowid
                                        from reveille_trigger x
                                       where x.queue = q.name and x.kind = s.value and x.priority = p.priority
                                         and x.holder is null and x.passive = 0 and x.wake_at <= $4
                                         and hex(x.task_id) not in (select value from json_each($6))
                                       order by x.wake_at
                                       limit $5)
                    where $1 is null or q.name in (select value from json_each($1))
                    order by t.priority desc, t.wake_at
                    limit $5)
returning task_id, generation, kind, spec, since, wake_at, deadline_at, deaths, error_budget, arrivals
