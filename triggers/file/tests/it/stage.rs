//! A temporary directory, a clock, and one trigger's memory.

use std::{
    fs,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime},
};

use camino::{Utf8Path, Utf8PathBuf};
use reveille_file::{File, Found};
use reveille_trigger::{Answer, Context, Error, Memory, Outcome, Timestamp, Trigger};
use tempfile::TempDir;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Stage {
    dir: TempDir,
    now_ms: i64,
    /// How far the clock goes on while a check looks.
    pub(crate) look_takes: Duration,
    memory: Option<Memory>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        Self { dir, now_ms: 0, look_takes: Duration::ZERO, memory: None }
    }

    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.dir.path()).expect("a UTF-8 path").join(name)
    }

    /// Writes a file, and the directories that lead to it.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
        fs::write(path, content).expect("a file");
    }

    /// Sets a time of modification by hand: the kernel's is too coarse to tell two writes of one test apart.
    pub(crate) fn modified(&self, name: &str, second: u64) {
        let file = fs::File::open(self.path(name)).expect("a file");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).expect("its time");
    }

    pub(crate) fn turn_clock(&mut self, by: Duration) {
        self.now_ms += i64::try_from(by.as_millis()).expect("a short time");
    }

    /// Loses what the checks left one another, as a change of hands does.
    pub(crate) fn change_hands(&mut self) {
        self.memory = None;
    }

    /// One check: the paths and sizes it fired with, relative to the stage; none if it has not fired.
    pub(crate) async fn check(&mut self, file: &File) -> Option<Vec<(String, u64)>> {
        let found = self.try_check(file).await.expect("an answer")?;
        let relative = |path: &Utf8Path| path.strip_prefix(self.path("")).expect("a path on the stage").to_string();
        Some(found.files.iter().map(|file| (relative(&file.path), file.size)).collect())
    }

    pub(crate) async fn try_check(&mut self, file: &File) -> Result<Option<Found>, Error> {
        // A check reads the clock before it looks; what it reads later it reads after.
        let began_ms = self.now_ms;
        self.turn_clock(self.look_takes);
        let ended_ms = self.now_ms;
        let next_ms = AtomicI64::new(began_ms);
        let now = move || Timestamp::from_millisecond(next_ms.swap(ended_ms, Ordering::Relaxed)).expect("a time");
        let cx = Context::new(now, Timestamp::UNIX_EPOCH, self.memory.take().unwrap_or_default());
        let answer = file.check(&cx).await;
        self.memory = Some(cx.into_memory());
        match answer? {
            Answer::NotYet => Ok(None),
            Answer::Fire(event) => match event.outcome {
                Outcome::Resume(payload) => Ok(Some(serde_json::from_value(payload).expect("what was found"))),
                other => panic!("a file resumes a task, and does not end it: {other:?}"),
            },
        }
    }

    /// Two checks, the second one when all that stays the same has settled.
    pub(crate) async fn settle(&mut self, file: &File) -> Option<Vec<(String, u64)>> {
        assert_eq!(self.check(file).await, None, "one look cannot tell that a file has stopped growing");
        self.turn_clock(2 * SECOND);
        self.check(file).await
    }
}

/// What [`Stage::check`] gives for these files.
#[expect(clippy::unnecessary_wraps, reason = "it is compared with what a check gives")]
pub(crate) fn fired<const N: usize>(files: [(&str, u64); N]) -> Option<Vec<(String, u64)>> {
    Some(files.map(|(path, size)| (path.to_owned(), size)).into())
}
