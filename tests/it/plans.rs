//! What the hot statements cost beside rows that cannot move.

mod hot;
mod rows;

use reveille::store::{Db, fleet, replica, unserved};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use self::{
    hot::{BATCH, hot},
    rows::{analyze, ended, keyed, movable, stuck},
};
use crate::{sql::files, stage::Stage};

/// How many rows are taken where pages are counted: so few that reading what is stuck would show.
const FEW: usize = 20;

/// Plans for the arguments that are given, and for any.
const MODES: [&str; 2] = ["force_custom_plan", "force_generic_plan"];

async fn run(c: &mut PgConnection, text: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(text.into())).execute(c).await.unwrap();
}

/// The plan of a statement, as JSON; with `analyze, buffers`, it is run for that.
async fn explain(c: &mut PgConnection, options: &str, text: &str, arguments: &str) -> Value {
    run(c, format!("prepare hot as {text}")).await;
    let explain = format!("explain (format json{options}) execute hot({arguments})");
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut *c).await.unwrap();
    run(c, "deallocate hot").await;
    plan[0]["Plan"].clone()
}

/// Every node of a plan.
fn nodes(plan: &Value) -> Vec<&Value> {
    let children = plan["Plans"].as_array().into_iter().flatten();
    std::iter::once(plan).chain(children.flat_map(nodes)).collect()
}

/// What a node reads directly, through those that only pass it on.
fn source(plan: &Value) -> &str {
    let kind = plan["Node Type"].as_str().unwrap();
    match kind {
        "Materialize" | "Memoize" | "Sort" | "Limit" | "Unique" | "Subquery Scan" => {
            plan["Plans"].as_array().and_then(|plans| plans.first()).map_or(kind, source)
        }
        _ => kind,
    }
}

/// What is wrong with a plan, if anything.
fn faults(plan: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for node in nodes(plan) {
        let (kind, relation) =
            (node["Node Type"].as_str().unwrap(), node["Relation Name"].as_str().unwrap_or_default());
        if kind == "Seq Scan" && ["reveille_task", "reveille_trigger", "reveille_finished_05"].contains(&relation) {
            faults.push(format!("reads the whole of {relation}"));
        }
        if kind == "Nested Loop" {
            let mut plans = node["Plans"].as_array().into_iter().flatten();
            let inner = plans.find(|plan| plan["Parent Relationship"] == "Inner").map_or("", source);
            // A list has no index: it is gone through once for every row of the other side.
            if ["CTE Scan", "Function Scan"].contains(&inner) {
                faults.push("goes through a list again and again".to_owned());
            }
        }
    }
    faults
}

/// How many rows a statement answers with, and how many pages it touches; what it changes is undone.
async fn touched(c: &mut PgConnection, text: &str, arguments: &str) -> (f64, i64) {
    run(c, "begin").await;
    let plan = explain(c, ", analyze, buffers, timing off", text, arguments).await;
    run(c, "rollback").await;
    let pages = |kind: &str| plan[format!("Shared {kind} Blocks")].as_i64().unwrap();
    (plan["Actual Rows"].as_f64().unwrap(), pages("Hit") + pages("Read"))
}

/// How often a whole table was read by this session.
async fn whole_reads(c: &mut PgConnection) -> i64 {
    let text = "select coalesce(sum(seq_scan), 0)::bigint from pg_stat_xact_user_tables
                 where relname in ('reveille_task', 'reveille_trigger')";
    sqlx::query_scalar(text).fetch_one(c).await.unwrap()
}

/// How many pages it touches to move a few rows.
async fn pages(c: &mut PgConnection, text: &str, arguments: &str) -> i64 {
    let (rows, pages) = touched(c, text, arguments).await;
    assert!((rows - FEW as f64).abs() < 0.5, "it moved {rows} rows");
    pages
}

on_postgres!(
    async fn a_million_stuck_rows_cost_the_hot_statements_nothing(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let mut tx = stage.store.begin().await.unwrap();
        let Db::Postgres(c) = tx.db() else { unreachable!() };
        run(c, "commit; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0").await;
        movable(c, worker, triggerer).await;
        run(c, "vacuum reveille_task, reveille_trigger").await;
        analyze(c).await;
        let hot = hot(worker, triggerer);
        let few = |arguments: &str| arguments.replace(&format!("{BATCH}::bigint"), &format!("{FEW}::bigint"));
        let taking = hot.iter().filter(|(name, ..)| ["claim", "lease"].contains(name));
        let taking: Vec<_> = taking.map(|(name, text, arguments)| (name, text, few(arguments))).collect();
        let mut before = Vec::new();
        for (_, text, arguments) in &taking {
            before.push(pages(c, text, arguments).await);
        }

        stuck(c).await;
        ended(c).await;
        keyed(c).await;
        run(c, "vacuum reveille_task, reveille_trigger").await;
        analyze(c).await;
        for ((name, text, arguments), before) in taking.iter().zip(before) {
            let after = pages(c, text, arguments).await;
            println!("{name} reads {after} pages beside the stuck, {before} without");
            // Trees that are a level or two deeper.
            assert!(after < before + before / 2, "{name} reads {after} pages beside the stuck, {before} without");
        }

        let mut found = Vec::new();
        for mode in MODES {
            run(c, format!("set plan_cache_mode = {mode}")).await;
            for (name, text, arguments) in &hot {
                let plan = explain(c, "", text, arguments).await;
                found.extend(faults(&plan).into_iter().map(|fault| format!("{name} ({mode}) {fault}")));
            }
        }
        assert!(found.is_empty(), "{found:#?}");
    }
);

on_postgres!(
    async fn what_the_gone_left_is_found_where_one_holds_all(stage: Stage) {
        // Two are gone, one has all, and one has joined and has nothing.
        for gone in [stage.worker().await, stage.triggerer().await] {
            stage.leave(gone).await;
        }
        let (worker, triggerer, _) = (stage.worker().await, stage.triggerer().await, stage.triggerer().await);
        let mut tx = stage.store.begin().await.unwrap();
        let Db::Postgres(c) = tx.db() else { unreachable!() };
        run(c, "commit").await;
        movable(c, worker, triggerer).await;
        run(c, format!("update reveille_task set state = 'running', holder = '{worker}'")).await;
        run(c, "delete from reveille_trigger").await;
        run(c, "vacuum reveille_task, reveille_trigger").await;
        let many = format!(
            "insert into reveille_kind_set (kinds) values ('fake');
             insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, or_resume,
                                           holder, deaths)
             select lpad(to_hex(n), 32, '0')::uuid, 0, 'fake', false, 'default', 1, '\\x00', n, n, false, '{triggerer}', 0
               from generate_series(1, 50000) n"
        );
        run(c, many).await;
        analyze(c).await;
        // What it held and has let go of stays in the indexes until they are vacuumed, next to where the gone had theirs.
        run(c, "delete from reveille_trigger where wake_at < 40000").await;
        // Of any holder the planner then expects that it holds all, and nobody left anything.
        let asking = ["look", "take_over", "free", "news", "rescue"];
        let asking: Vec<_> = hot(worker, triggerer).into_iter().filter(|(name, ..)| asking.contains(name)).collect();
        for mode in MODES {
            run(c, format!("set plan_cache_mode = {mode}")).await;
            for (name, text, arguments) in &asking {
                let (_, pages) = touched(c, text, arguments).await;
                assert!(pages < 30, "{name} ({mode}) reads {pages} pages to find nothing");
            }
            run(c, "begin").await;
            let before = whole_reads(c).await;
            let unserved = unserved::Unserved { kinds: "fake".to_owned(), queue: "default".to_owned() };
            let db = &mut Db::Postgres(&mut *c);
            assert_eq!(unserved::beside(db, &[]).await.unwrap().len(), 0);
            assert_eq!(unserved::count(db, &unserved, 1_000).await.unwrap(), 0);
            assert_eq!(fleet::held(db).await.unwrap().len(), 2);
            replica::forget(db, i64::MAX).await.unwrap();
            assert_eq!(whole_reads(c).await - before, 0, "{mode}");
            run(c, "rollback").await;
        }
    }
);

on_postgres!(
    async fn what_came_after_the_tables_were_analyzed_is_taken_by_its_id(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let mut tx = stage.store.begin().await.unwrap();
        let Db::Postgres(c) = tx.db() else { unreachable!() };
        run(c, "commit").await;
        movable(c, worker, triggerer).await;
        analyze(c).await;
        let claim = hot(worker, triggerer).into_iter().find(|(name, ..)| *name == "claim");
        let (_, text, arguments) = claim.expect("it is hot");
        let arguments = arguments.replace(&format!("{BATCH}::bigint"), &format!("{FEW}::bigint"));
        let before = pages(c, text, &arguments).await;
        // As after a night in which nothing was ready.
        run(c, "update reveille_task set state = 'running' where state = 'ready'").await;
        run(c, "vacuum reveille_task").await;
        analyze(c).await;
        run(c, "update reveille_task set state = 'ready' where state = 'running' and holder is null").await;
        let after = pages(c, text, &arguments).await;
        assert!(
            after < before + before / 2,
            "a claim reads {after} pages, {before} where it is known how many are ready"
        );

        // A defer names its rows, and does not go through all that its worker holds.
        let defer = hot(worker, triggerer).into_iter().find(|(name, ..)| *name == "defer");
        let (_, text, arguments) = defer.expect("it is hot");
        let plan = explain(c, "", text, &arguments).await;
        let is_of_holders = |node: &Value| node["Index Name"] == "reveille_task_held";
        assert!(!nodes(&plan).into_iter().any(is_of_holders), "{plan:#}");

        // Nor does the planner think that next to none of them runs, as where none did when the table was analyzed: it may then
        // compare each that does with each of the batch.
        run(c, "update reveille_task set state = 'ready', holder = null").await;
        analyze(c).await;
        let plan = explain(c, "", text, &arguments).await;
        let reads = |node: &Value| node["Relation Name"] == "reveille_task" && node["Node Type"] != "ModifyTable";
        let one_by_one = |node: &Value| node["Index Cond"].as_str().is_some_and(|cond| cond.starts_with("(id = d"));
        let next_to_none = |node: &Value| node["Plan Rows"].as_u64() < Some(BATCH as u64) && !one_by_one(node);
        assert!(!nodes(&plan).into_iter().any(|node| reads(node) && next_to_none(node)), "{plan:#}");
    }
);

on_sqlite!(
    async fn no_statement_goes_through_a_whole_table(stage: Stage) {
        let mut tx = stage.store.begin().await.unwrap();
        let Db::Sqlite(c) = tx.db() else { unreachable!() };
        // Lists that the statement is given, and the few queues and sets of kinds.
        let lists = [
            "SCAN CONSTANT ROW",
            "SCAN reveille_kind_set",
            "SCAN json_each",
            "SCAN p",
            "SCAN q",
            "SCAN n ",
            "SCAN s ",
            "SCAN d",
            "SCAN g",
            "SCAN f",
            "SCAN x ",
        ];
        for (name, statements) in files("sqlite") {
            for statement in statements {
                let explain = format!("explain query plan {statement}");
                let steps = sqlx::query(AssertSqlSafe(explain)).fetch_all(&mut *c).await.unwrap();
                for step in steps.iter().map(|row| row.get::<String, _>("detail")) {
                    let whole = step.starts_with("SCAN ") && !lists.iter().any(|list| step.starts_with(list));
                    assert!(!whole, "{name}: {step}");
                }
            }
        }
    }
);

#[test]
fn a_plan_with_a_fault_is_found_out() {
    let scan = |kind: &str, side: &str| serde_json::json!({ "Node Type": kind, "Parent Relationship": side });
    let nested =
        |outer: Value, inner: Value| serde_json::json!({ "Node Type": "Nested Loop", "Plans": [outer, inner] });
    let sorted = serde_json::json!({ "Node Type": "Sort", "Parent Relationship": "Inner", "Plans": [scan("CTE Scan", "Outer")] });
    assert_eq!(faults(&nested(scan("Function Scan", "Outer"), sorted)), ["goes through a list again and again"]);
    assert_eq!(faults(&nested(scan("Index Scan", "Outer"), scan("CTE Scan", "Inner"))).len(), 1);
    assert!(faults(&nested(scan("Function Scan", "Outer"), scan("Index Scan", "Inner"))).is_empty());
    let whole = serde_json::json!({ "Node Type": "Limit", "Plans": [{ "Node Type": "Seq Scan", "Relation Name": "reveille_task" }] });
    assert_eq!(faults(&whole), ["reads the whole of reveille_task"]);
}
