//! How a test is written down.

/// Holds one claim on both databases.
macro_rules! both {
    (async fn $name:ident($stage:ident: Stage) $body:block) => {
        mod $name {
            use super::*;

            async fn test($stage: Stage) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                $crate::stage::run($crate::stage::Backend::Sqlite, test).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                $crate::stage::run($crate::stage::Backend::Postgres, test).await;
            }
        }
    };
}

/// Holds a claim that only PostgreSQL can break.
macro_rules! on_postgres {
    (async fn $name:ident($stage:ident: Stage) $body:block) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            async fn test($stage: Stage) $body
            $crate::stage::run($crate::stage::Backend::Postgres, test).await;
        }
    };
}

/// Holds a claim that only SQLite can break.
macro_rules! on_sqlite {
    (async fn $name:ident($stage:ident: Stage) $body:block) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            async fn test($stage: Stage) $body
            $crate::stage::run($crate::stage::Backend::Sqlite, test).await;
        }
    };
}

/// Runs one verb in a transaction of its own: `commit!(store, db => task::claim(db, …))`.
macro_rules! commit {
    ($store:expr, $db:ident => $verb:expr) => {{
        let mut tx = $store.begin().await.unwrap();
        let done = {
            let $db = &mut tx.db();
            $verb.await.unwrap()
        };
        tx.commit().await.unwrap();
        done
    }};
}

/// Runs one verb in a transaction that stays open: `open!(tx, db => task::claim(db, …))`.
macro_rules! within {
    ($tx:expr, $db:ident => $verb:expr) => {{
        let $db = &mut $tx.db();
        $verb.await.unwrap()
    }};
}

/// Holds one claim on what is typed, on both databases.
macro_rules! on_both {
    (fn $name:ident($shell:ident) $body:block) => {
        mod $name {
            use super::*;

            fn test($shell: &Shell) $body

            #[test]
            fn sqlite() {
                test(&Shell::with_its_own_tmp(Backend::Sqlite));
            }

            #[test]
            fn postgres() {
                test(&Shell::with_its_own_tmp(Backend::Postgres));
            }
        }
    };
}
