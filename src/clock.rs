//! Time: the database's clock decides *when*, the host's monotonic clock decides *how long*.
//!
//! The database's time is learned whenever a replica renews, and carried on between by `CLOCK_BOOTTIME`, which also
//! counts while the host is suspended. The host's wall clock is read once, as a first guess. Tests turn the clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;

/// A clock that every loop and verb of one process shares.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// Milliseconds to add to the monotonic clock to get the database's time.
    System { offset: AtomicI64 },
    /// Milliseconds since the epoch; stands still until turned.
    Turned { now: watch::Sender<i64> },
}

impl Clock {
    /// The real clock.
    #[expect(clippy::disallowed_methods, reason = "the first guess, until the database's time is learned")]
    pub fn system() -> Self {
        let offset = Timestamp::now().as_millisecond() - millis(boot_time());
        Self(Arc::new(Source::System { offset: AtomicI64::new(offset) }))
    }

    /// A clock that stands at `start` until it is [turned](Self::turn).
    pub fn turned(start: Timestamp) -> Self {
        Self(Arc::new(Source::Turned { now: watch::Sender::new(start.as_millisecond()) }))
    }

    /// The database's time, in milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        match &*self.0 {
            Source::System { offset } => millis(boot_time()) + offset.load(Ordering::Relaxed),
            Source::Turned { now } => *now.borrow(),
        }
    }

    /// The database's time.
    pub fn now(&self) -> Timestamp {
        timestamp(self.now_ms())
    }

    /// Time that passes evenly and is never set, from an arbitrary start.
    pub fn monotonic(&self) -> Duration {
        match &*self.0 {
            Source::System { .. } => boot_time(),
            Source::Turned { now } => Duration::from_millis(now.borrow().cast_unsigned()),
        }
    }

    /// Takes over the database's time, read by a statement sent at `sent` and answered at `received`. It was read at some
    /// time in between: what we believe is moved no further than that says, so that a slow answer does no harm.
    pub fn learn(&self, database_ms: i64, sent: Duration, received: Duration) {
        if let Source::System { offset } = &*self.0 {
            let (least, most) = (database_ms - millis(received.max(sent)), database_ms - millis(sent));
            let believed = offset.load(Ordering::Relaxed);
            offset.store(believed.clamp(least, most), Ordering::Relaxed);
        }
    }

    /// Whether this is a test's clock, which the database's time does not set.
    pub fn is_turned(&self) -> bool {
        matches!(&*self.0, Source::Turned { .. })
    }

    /// Moves a turned clock on, and wakes what slept until then.
    ///
    /// # Panics
    /// On the system's clock.
    pub fn turn(&self, by: Duration) {
        match &*self.0 {
            Source::Turned { now } => now.send_modify(|now| *now += millis(by)),
            Source::System { .. } => panic!("only a turned clock can be turned"),
        }
    }

    /// Waits. Dropping it leaves nothing behind.
    #[expect(clippy::disallowed_methods, reason = "the one place where the system's clock is slept on")]
    pub async fn sleep(&self, how_long: Duration) {
        match &*self.0 {
            Source::System { .. } => tokio::time::sleep(how_long).await,
            Source::Turned { now } => {
                let until = now.borrow().saturating_add(millis(how_long));
                let mut now = now.subscribe();
                now.wait_for(|now| *now >= until).await.expect("the sender lives in self");
            }
        }
    }
}

/// A timestamp from milliseconds as stored; what lies outside the calendar is clamped to its ends.
pub fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Whole milliseconds of a duration; what is too long for the database is as long as it can be.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn boot_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec.try_into().expect("nanoseconds are below a second"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turned_clock_wakes_what_slept_until_then() {
        let clock = Clock::turned(timestamp(1_000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(5)).await }
        });
        tokio::task::yield_now().await;
        clock.turn(Duration::from_secs(5));
        sleeper.await.unwrap();
        assert_eq!(clock.now_ms(), 6_000);
    }

    #[test]
    fn the_databases_time_is_known_as_well_as_the_quickest_answer_tells() {
        let clock = Clock::system();
        let ms = Duration::from_millis;
        let sent = clock.monotonic();
        let off = || clock.now_ms() - (1_000_000 + millis(clock.monotonic().saturating_sub(sent)));
        clock.learn(1_000_000, sent, sent + ms(10));
        assert!((-11..=1).contains(&off()), "{}", off());
        // As far as a slow answer tells, that is still right.
        let before = off();
        clock.learn(1_004_000, sent, sent + ms(5_000));
        assert!((off() - before).abs() <= 1);
        // The database's clock was set an hour ahead.
        clock.learn(1_000_000 + 3_600_000, sent, sent + ms(10));
        assert!((3_599_989..=3_600_001).contains(&off()), "{}", off());
    }
}
