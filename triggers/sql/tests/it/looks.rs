//! What a look finds, on each of the databases.

use std::time::Duration;

use reveille_trigger::checks::{may_be_dropped, never_blocks};
use serde_json::{Value, json};

use crate::stage::{Kind, Stage};

/// The same test on each database. MySQL's says that it was left out where there is no server.
macro_rules! each {
    ($(async fn $name:ident($stage:ident: Stage) $body:block)*) => { $(
        mod $name {
            use super::*;

            async fn on(kind: Kind) {
                let Some($stage) = Stage::on(kind).await else {
                    println!("left out: TEST_MYSQL_URL is not set");
                    return;
                };
                $body
                $stage.end().await;
            }

            #[tokio::test]
            async fn sqlite() {
                on(Kind::Sqlite).await;
            }

            #[tokio::test]
            async fn postgres() {
                on(Kind::Postgres).await;
            }

            #[tokio::test]
            async fn mysql() {
                on(Kind::MySql).await;
            }
        }
    )* };
}

each! {
    async fn the_first_row_fires_with_its_columns(stage: Stage) {
        let sql = stage.query("select id, note as \"a note's \\ text\" from TABLE order by id limit 1");
        let sql = if stage.kind == Kind::MySql { stage.query("select id, note as `a note's \\ text` from TABLE limit 1") } else { sql };
        assert_eq!(stage.look(&sql).await.expect("an answer"), None);
        stage.run("insert into TABLE values (7, true, 'it''s \"here\"')").await;
        let row = json!({"id": 7, "a note's \\ text": "it's \"here\""});
        assert_eq!(stage.look(&sql).await.expect("an answer"), Some(row));
    }

    async fn one_value_says_yes_or_no(stage: Stage) {
        let count = stage.query("select count(*) as n from TABLE");
        let exists = stage.query("select exists (select 1 from TABLE) as it;");
        let done = stage.query("select max(id) as id from TABLE where done");
        for sql in [&count, &exists, &done] {
            assert_eq!(stage.look(sql).await.expect("an answer"), None, "{sql:?}");
        }
        stage.run("insert into TABLE values (7, true, null)").await;
        assert_eq!(stage.look(&count).await.expect("an answer"), Some(json!({"n": 1})));
        let yes = if stage.kind == Kind::Postgres { json!(true) } else { json!(1) };
        assert_eq!(stage.look(&exists).await.expect("an answer"), Some(json!({"it": yes})));
        assert_eq!(stage.look(&done).await.expect("an answer"), Some(json!({"id": 7})));
    }

    async fn a_row_of_more_values_says_yes_whatever_they_are(stage: Stage) {
        stage.run("insert into TABLE values (0, null, null)").await;
        let row = json!({"id": 0, "note": null});
        assert_eq!(stage.look(&stage.query("select id, note from TABLE")).await.expect("an answer"), Some(row));
    }

    async fn parameters_are_bound_as_what_they_are(stage: Stage) {
        stage.run("insert into TABLE values (1, true, 'a''; drop'), (2, true, 'b')").await;
        let sql = stage.query("select id, note from TABLE where note = $1 and id = $2");
        let found = stage.look(&sql.clone().parameter("a'; drop").parameter(1)).await.expect("an answer");
        assert_eq!(found, Some(json!({"id": 1, "note": "a'; drop"})));
        assert_eq!(stage.look(&sql.parameter("b").parameter(Value::Null)).await.expect("an answer"), None);
        let sql = stage.query("select id, note from TABLE where done = $1 and id < $2").parameter(true).parameter(1.5);
        assert_eq!(stage.look(&sql).await.expect("an answer").expect("a row")["id"], json!(1));
    }

    async fn a_query_of_any_form_is_looked_at(stage: Stage) {
        stage.run("insert into TABLE values (1, true, 'a')").await;
        for text in [
            "with a as (select id, note from TABLE) select id from a",
            "select id from TABLE -- a comment at the end",
            "(select id from TABLE) union all (select id from TABLE)",
            "select id from TABLE ; ;\n",
        ] {
            if stage.kind == Kind::Sqlite && text.starts_with('(') {
                continue; // It has no such form.
            }
            assert_eq!(stage.look(&stage.query(text)).await.expect(text), Some(json!({"id": 1})), "{text}");
        }
    }

    async fn what_is_no_sql_is_a_fatal_error(stage: Stage) {
        for text in ["select from where", "select 1) select (2", "with a as (select 1) delete from TABLE"] {
            let error = stage.look(&stage.query(text)).await.expect_err(text);
            assert!(error.is_fatal(), "{error}");
            assert!(error.to_string().starts_with(&format!("the database \"{}\" says: ", stage.name)), "{error}");
        }
    }

    async fn a_table_that_is_not_there_may_come(stage: Stage) {
        let error = stage.look(&stage.query("select id from TABLE_2")).await.expect_err("an error");
        assert!(!error.is_fatal(), "{error}");
        stage.run("create table TABLE_2 as select 1 as id").await;
        let found = stage.look(&stage.query("select id from TABLE_2")).await.expect("an answer");
        stage.run("drop table TABLE_2").await;
        assert_eq!(found, Some(json!({"id": 1})));
    }

    async fn a_missing_parameter_is_an_error(stage: Stage) {
        let sql = stage.query("select id from TABLE where note = $1 and id = $2").parameter("a");
        // SQLite takes what is not bound for null.
        match stage.look(&sql).await {
            Ok(found) => assert!(stage.kind == Kind::Sqlite && found.is_none()),
            Err(error) => assert!(stage.kind != Kind::Sqlite, "{error}"),
        }
    }

    async fn a_row_of_64_kib_fires_and_a_larger_one_is_refused(stage: Stage) {
        let text = |bytes: usize| match stage.kind {
            Kind::Sqlite => format!("select replace(hex(zeroblob({bytes})), '00', 'x') as it"),
            Kind::Postgres | Kind::MySql => format!("select repeat('x', {bytes}) as it"),
        };
        // Some put a space after the colon.
        let fits = stage.look(&stage.query(&text(65_526))).await.or(stage.look(&stage.query(&text(65_525))).await);
        assert!(fits.expect("an answer").is_some());
        let error = stage.look(&stage.query(&text(65_536))).await.expect_err("a refusal");
        assert!(error.is_fatal() && error.to_string().contains("may have 65536: select less"), "{error}");
    }

    async fn a_query_that_takes_too_long_is_ended(stage: Stage) {
        let text = match stage.kind {
            Kind::Sqlite => "with recursive a(n) as (select 1 union all select n + 1 from a) select max(n) from a",
            Kind::Postgres => "select pg_sleep(600)::text",
            // MySQL's `sleep` takes its end for a success.
            Kind::MySql => "select count(*) from information_schema.columns a, information_schema.columns b, \
                            information_schema.columns c, information_schema.columns d",
        };
        let sql = stage.query(text).within(Duration::from_millis(300));
        // More often than there are connections: each is given back, or made anew.
        for _ in 0..6 {
            let error = stage.look(&sql).await.expect_err("an error");
            assert!(!error.is_fatal() && error.to_string().contains("took longer than `time_out`"), "{error}");
        }
        assert!(stage.look(&stage.query("select 1 as it")).await.expect("an answer").is_some());
        let sql = sql.within(Duration::from_secs(1));
        never_blocks(&sql, || stage.context()).await.expect_err("an error");
    }

    async fn a_look_may_be_dropped_wherever_it_waits(stage: Stage) {
        stage.run("insert into TABLE values (1, true, 'a')").await;
        assert!(may_be_dropped(&stage.query("select id, note from TABLE"), || stage.context()).await > 0);
    }

    async fn many_looks_share_a_few_connections(stage: Stage) {
        let sql = stage.query("select count(*) as n from TABLE");
        let looks = (0..100).map(|_| {
            let (sql, cx) = (sql.clone(), stage.context());
            tokio::spawn(async move { crate::stage::look(&sql, &cx).await })
        });
        for look in looks.collect::<Vec<_>>() {
            assert_eq!(look.await.expect("a look").expect("an answer"), None);
        }
    }
}
