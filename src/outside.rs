//! The outside: what other programs do that the tasks of the demo and of the benchmark wait for.
//!
//! Each part is played by this same binary in a process of its own, so that nothing is shared with the replica that
//! waits, not even the CPU time that is counted. `reveille outside` is how such a process is told its part.

mod server;

use std::{io, path::Path, process::Stdio, time::Duration};

use tokio::{fs, io::AsyncWriteExt, process::Command};

pub(crate) use self::server::{Server, Speaking, serve};
use crate::{
    clock::Clock,
    error::{Error, Result},
};

/// Writes a file in parts, pausing in between.
///
/// # Errors
/// If it cannot be written.
pub(crate) async fn write_file(path: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::Invalid(format!("cannot write {}: {error}", path.display()));
    let mut file = fs::File::create(path).await.map_err(failed)?;
    let clock = Clock::system();
    for part in 1..=5 {
        file.write_all(format!("part {part}\n").as_bytes()).await.map_err(failed)?;
        file.flush().await.map_err(failed)?;
        clock.sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// How large a file is, once it is there.
///
/// # Errors
/// If that cannot be told.
pub(crate) async fn look_for(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path).await {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Invalid(format!("cannot look for {}: {error}", path.display()))),
    }
}

/// Runs this program, or another, to its end. Dropped, it kills it.
///
/// # Errors
/// If it cannot be run, or fails.
pub(crate) async fn run(program: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Error::Unusable(format!("cannot run {}: {error}", program.display())))?;
    if output.status.success() {
        return Ok(());
    }
    // Not the arguments: the URL of a database has a password in it.
    let what = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Unusable(format!("`reveille {what}` failed: {}", said.trim())))
}
