//! A replica's own life, with its clock turned: when it parks.

use std::time::Duration;

use reveille::{
    clock::Clock,
    presence::Presence,
    store::{
        Db,
        replica::{Card, Role},
    },
};

use crate::stage::{Stage, card};

const LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// Waits, in the host's time, for what another thread does.
async fn until(claim: impl Fn() -> bool) {
    while !claim() {
        Clock::system().sleep(Duration::from_millis(1)).await;
    }
}

// SQLite would take the renewal in its turn too, but says to nobody that one waits for it.
on_postgres!(
    async fn a_reply_that_comes_late_counts_from_its_sending(stage: Stage) {
        let presence =
            Presence::join(&stage.store, Card { lease: LEASE, ..card(Role::Worker, "work") }, LEASE).await.unwrap();
        until(|| presence.renewals() == 1).await;
        let mut tx = stage.begin().await;
        let Db::Postgres(c) = tx.db() else { unreachable!() };
        sqlx::query("select from reveille_replica where incarnation = $1 for update")
            .bind(presence.me().0)
            .execute(c)
            .await
            .unwrap();
        let time_passes = async {
            loop {
                stage.turn(SECOND);
                Clock::system().sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = stage.blocked(1) => {}
            never = time_passes => never,
        }
        // The next renewal was sent, and its reply does not come for almost a lease.
        stage.turn(LEASE - SECOND);
        assert!(presence.is_parked());
        tx.commit().await.unwrap();
        until(|| presence.renewals() == 2).await;
        stage.turn(2 * SECOND);
        assert!(presence.is_parked(), "a lease has passed since it was sent");
        while presence.is_parked() {
            stage.turn(SECOND);
            Clock::system().sleep(Duration::from_millis(20)).await;
        }
        presence.leave().await;
    }
);
