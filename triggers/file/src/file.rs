//! Fires when a file is there and has stopped growing.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use reveille_trigger::{Answer, Context, Error, Event, Spacing, Timestamp, Trigger, async_trait, typetag};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
};

use crate::{
    found::Listing,
    glance::is_missing,
    look::look,
    place::{Place, has_wildcards},
};

/// The most looks at one time. A mount that hangs holds its threads for as long as it likes, and must leave most of
/// the 512 that tokio has to others.
static LOOKS: Semaphore = Semaphore::const_new(64);

/// Fires when a path, or at least one match of a glob, is there and has stopped growing. The payload is
/// [`Found`](crate::Found).
///
/// # Spec
/// `{"path": "/data/in/*.csv", "settle": "2s", "every": "1s"}`
///
/// - `path`: absolute. With `*`, `?` or `[` in it, it is a pattern: `*`, `?`, `[a-z]` and `[!a-z]` within one name,
///   `**` alone between slashes for directories at any depth. As in a shell, wildcards do not match a leading dot,
///   and `**` enters neither hidden directories nor links. Within a pattern, brackets escape: `[[]`, `[*]`, `[?]`.
/// - `literal`: if true, `path` is no pattern, whatever characters are in it. False unless given.
/// - `settle`: for how long what is there must stay unchanged; `"2s"` unless given. With `"0s"`, to be there is enough.
/// - `every`: how far apart the looks are; `"1s"` unless given.
///
/// # What settled means
/// Two looks on one replica, at least `settle` apart, saw the same paths with the same sizes, times of modification
/// and inodes. No clock of the file's host is read, and a wait that changes hands starts settling anew.
///
/// A pattern settles as a whole: while one match grows, or comes or goes, it does not fire, and then it fires with all
/// that match. Where files never cease to come, wait for one of them by name, or set `settle` to `"0s"`.
///
/// A directory counts like a file; it settles when entries no longer come and go in it, however its files grow. An
/// empty file that stays empty has settled. A writer that pauses for longer than `settle` looks like one that has
/// finished, and a network file system may show an old size for as long as it caches attributes (`acregmax`, 60 s
/// unless set): choose a longer `settle` there, or have the writer rename a finished file into place.
///
/// # What is not found
/// A missing path, a missing parent and a parent that is a file are not there yet. What may not be read, or matches
/// with a name that is not UTF-8, is an error that may be tried again. More than 10,000 matches, or directories to
/// look into, are a fatal one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    path: Utf8PathBuf,
    #[serde(default, skip_serializing_if = "is_false")]
    literal: bool,
    #[serde(default = "default_settle", with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    settle: Duration,
    #[serde(default = "default_every")]
    every: Spacing,
}

impl File {
    /// Waits for the one file at `path`, whatever characters are in it.
    pub fn at(path: impl Into<Utf8PathBuf>) -> Self {
        let path = path.into();
        Self { literal: has_wildcards(path.as_str()), path, settle: default_settle(), every: default_every() }
    }

    /// Waits for at least one match of `pattern`.
    pub fn matching(pattern: impl Into<Utf8PathBuf>) -> Self {
        Self { path: pattern.into(), literal: false, settle: default_settle(), every: default_every() }
    }

    /// Sets for how long what is there must stay unchanged; zero if to be there is enough.
    #[must_use]
    pub fn settle(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Sets how far apart the looks are.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every: Spacing::every(every), ..self }
    }

    /// What it waits for, if that is not a pattern.
    fn one_path(&self) -> Option<&Utf8Path> {
        (self.literal || !has_wildcards(self.path.as_str())).then_some(&*self.path)
    }

    fn place(&self) -> Result<Place, Error> {
        if self.literal { Place::literal(&self.path) } else { Place::pattern(&self.path) }
    }

    /// Looks on a thread that may block. Dropped, it leaves the thread to end at its next step, or whenever a file
    /// system that hangs lets go of it.
    async fn look(&self, cx: &Context, before: Sight) -> Result<Listing, Error> {
        if before.look.strong_count() > 0 {
            return Err(Error::again(format!(
                "an earlier look at {:?} has not come back: its file system is slow, or hangs",
                self.path
            )));
        }
        let place = self.place()?;
        let permit = Arc::new(LOOKS.acquire().await?);
        cx.remember(Sight { look: Arc::downgrade(&permit), ..before });
        // Lives as long as this future, which is how the thread knows that it is still asked.
        let asking = Arc::new(());
        let asked = Arc::downgrade(&asking);
        spawn_blocking(move || {
            let _permit = permit;
            look(&place, || asked.strong_count() > 0)
        })
        .await?
    }
}

#[typetag::serde(name = "file")]
#[async_trait]
impl Trigger for File {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let before: Sight = cx.recall().unwrap_or_default();
        if self.one_path().is_some_and(is_missing) {
            if before.look.strong_count() > 0 {
                cx.remember(Sight { still: None, ..before });
            } else {
                cx.take::<Sight>();
            }
            cx.say(NOTHING);
            return Ok(Answer::NotYet);
        }
        // The span counted is the one between the looks: from after the first to before the second.
        let began_at = cx.now();
        let listing = self.look(cx, before.clone()).await?;
        if listing.is_empty() {
            // What remembers something does not go dormant.
            cx.take::<Sight>();
            cx.say(NOTHING);
            return Ok(Answer::NotYet);
        }
        let fingerprint = listing.fingerprint();
        let same = before.still.filter(|still| still.fingerprint == fingerprint);
        if self.settle.is_zero() || same.is_some_and(|still| still.lasted(began_at) >= self.settle) {
            return Ok(Answer::Fire(Event::resume(listing.into_found())?));
        }
        let still = same.unwrap_or_else(|| Still { fingerprint, since: cx.now() });
        cx.remember(Sight { still: Some(still), look: Weak::new() });
        cx.say("it is there, and has not settled");
        Ok(Answer::NotYet)
    }

    fn validate(&self) -> Result<(), Error> {
        if self.every.interval(Duration::ZERO).is_zero() {
            return Err(Error::fatal("`every` is zero: write how far apart the looks are, such as \"1s\""));
        }
        self.place().map(|_| ())
    }

    fn spacing(&self) -> Spacing {
        self.every
    }

    /// Each look is the same for everybody who waits for this.
    fn share(&self) -> bool {
        true
    }

    fn time_out(&self) -> Option<Duration> {
        // Ten thousand files on a slow mount, at 10 ms each.
        Some(Duration::from_secs(100))
    }
}

/// What a look says that has found nothing.
const NOTHING: &str = "nothing is there";

/// What the checks of one trigger leave one another.
#[derive(Clone, Default)]
struct Sight {
    still: Option<Still>,
    /// Alive while a look is under way, even if its check was given up: a mount that hangs costs a trigger one thread.
    look: Weak<SemaphorePermit<'static>>,
}

/// What has stayed the same, and since when.
#[derive(Clone, Copy)]
struct Still {
    fingerprint: u64,
    since: Timestamp,
}

impl Still {
    fn lasted(self, now: Timestamp) -> Duration {
        // A clock that was set back has counted nothing.
        now.duration_since(self.since).try_into().unwrap_or(Duration::ZERO)
    }
}

const fn default_settle() -> Duration {
    Duration::from_secs(2)
}

const fn default_every() -> Spacing {
    Spacing::every(Duration::from_secs(1))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use reveille_trigger::Memory;

    use super::*;

    #[tokio::test]
    async fn a_look_that_finds_nothing_leaves_nothing_so_that_the_wait_may_go_dormant() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("late").to_string_lossy().into_owned();
        for file in [File::at(path.clone()), File::matching(format!("{path}*"))] {
            let cx = Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Memory::default());
            for _ in 0..2 {
                assert!(matches!(file.check(&cx).await, Ok(Answer::NotYet)));
                assert!(!cx.has_memory());
            }
            std::fs::write(&path, "").expect("written");
            assert!(matches!(file.check(&cx).await, Ok(Answer::NotYet)) && cx.has_memory(), "it has yet to settle");
            std::fs::remove_file(&path).expect("removed");
            assert!(matches!(file.check(&cx).await, Ok(Answer::NotYet)) && !cx.has_memory(), "it is gone again");
        }
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_not_joined_by_another() {
        let cx = Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Memory::default());
        let hanging = Arc::new(LOOKS.acquire().await.expect("a permit"));
        cx.remember(Sight { still: None, look: Arc::downgrade(&hanging) });

        let file = File::at("/");
        let error = file.check(&cx).await.expect_err("an error");
        assert!(!error.is_fatal());
        assert!(error.to_string().starts_with(r#"an earlier look at "/" has not come back"#));

        drop(hanging);
        assert!(file.check(&cx).await.is_ok());
    }
}
