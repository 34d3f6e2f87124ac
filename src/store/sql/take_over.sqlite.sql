-- Takes triggers from holders that are gone, old holder to new in one write.
--  $1 queues as a JSON array (null: all)  $2 kind sets as a JSON array  $3 me  $4 how many  $5 set aside, as a JSON array of hexadecimal ids
update reveille_trigger
   set deaths = deaths + (select r.gone_why = 'lost' from reveille_replica r where r.incarnation = holder),
       holder = $3
 where exists (select 1 from reveille_replica r where r.incarnation = $3 and r.gone_at is null)
   and rowid in (select t.rowid
                   from reveille_replica g
                        cross join reveille_trigger t on t.holder = g.incarnation
                  where g.gone_at is not null and g.role = 'triggerer'
                    and t.kind in (select value from json_each($2))
                    and hex(t.task_id) not in (select value from json_each($5))
                    and ($1 is null or t.queue in (select value from json_each($1)))
                  limit $4)
returning task_id, generation, kind, spec, since, wake_at, deadline_at, deaths, error_budget, arrivals, true as inherited
