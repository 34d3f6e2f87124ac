//! A clock of the database's that a test can set.

use std::time::Duration;

use reveille::clock::millis;

use super::Stage;

impl Stage {
    /// Whoever connects from now on is told the time by a clock of its own, which goes right until it is [set](Self::set_clock).
    pub(crate) async fn own_clock(&self) {
        self.run(
            "create table how_far_off (ms bigint not null);
             insert into how_far_off values (0);
             create function clock_timestamp() returns timestamptz language sql volatile as
             'select pg_catalog.clock_timestamp() + (select ms from how_far_off) * interval ''1 millisecond''';
             do $$ begin execute format('alter database %I set search_path = public, pg_catalog', current_database()); end $$",
        )
        .await;
    }

    /// Sets it so far ahead of the right time, or behind it.
    pub(crate) async fn set_clock(&self, ahead: bool, by: Duration) {
        let ms = if ahead { millis(by) } else { -millis(by) };
        let mut tx = self.store.begin().await.unwrap();
        let reveille::store::Db::Postgres(c) = tx.db() else { panic!("the clock of a file is its host's") };
        let set = sqlx::query("update how_far_off set ms = $1").bind(ms).execute(c).await.unwrap();
        assert_eq!(set.rows_affected(), 1);
        tx.commit().await.unwrap();
    }
}
