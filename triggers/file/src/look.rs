//! One look at the file system: blocking, read-only, and bounded.
//!
//! The walk is our own because `glob::glob` would leave out, without a word, a directory that it may not search and
//! a name that is not UTF-8, and would follow links that lead in circles. A look that cannot tell must say so: to
//! leave a file out is to fire before it has settled.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use camino::Utf8PathBuf;
use reveille_trigger::Error;

use crate::{
    found::{Listing, Seen},
    place::{self, Place, Step},
};

/// The most that one look finds, and the most that it has before it: what it holds in memory, and what it fires, have
/// a bound.
const MAX_MATCHES: usize = 10_000;

/// Why a look could not tell.
#[derive(Debug, thiserror::Error)]
enum Unclear {
    #[error("cannot look at {path:?}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot name {0:?} in an event: it matches `path`, but its name is not UTF-8; rename or move it")]
    NotUtf8(PathBuf),
    #[error(
        "`path` leads to more than {MAX_MATCHES} files or directories: narrow it, or wait for a file that is written \
         last"
    )]
    TooMany,
    #[error("nobody waits for this look any more")]
    Abandoned,
}

/// Finds all that is at `place` now. Stops before the next file or directory once `is_wanted` says no.
pub(crate) fn look(place: &Place, is_wanted: impl Fn() -> bool) -> Result<Listing, Error> {
    let mut walk = Walk { todo: Vec::new(), seen: Vec::new() };
    walk.go(PathBuf::from("/"), place.steps())?;
    while let Some((path, steps)) = walk.todo.pop() {
        if !is_wanted() {
            return Err(Error::again(Unclear::Abandoned));
        }
        walk.take_step(path, steps)?;
    }
    Ok(Listing::new(walk.seen))
}

/// A walk from the root along the steps of a place.
struct Walk<'p> {
    /// Where to go on, and the steps left from there. A list and not a recursion, so that a deep tree costs neither
    /// stack nor open directories.
    todo: Vec<(PathBuf, &'p [Step])>,
    seen: Vec<Seen>,
}

impl<'p> Walk<'p> {
    fn take_step(&mut self, path: PathBuf, steps: &'p [Step]) -> Result<(), Error> {
        let Some((step, after)) = steps.split_first() else { return self.see(path) };
        match step {
            Step::Name(name) => self.go(path.join(name), after),
            Step::Matching(pattern) => entries(&path, |entry| {
                if place::matches(pattern, &entry.file_name().to_string_lossy()) {
                    self.go(entry.path(), after)?;
                }
                Ok(())
            }),
            Step::AnyDepth => {
                entries(&path, |entry| {
                    // As in a shell, not into hidden directories, where snapshots are, nor along links, which lead in
                    // circles.
                    if entry.file_name().as_encoded_bytes().starts_with(b".") {
                        return Ok(());
                    }
                    match present(&entry.path(), entry.file_type())? {
                        Some(kind) if kind.is_dir() => self.go(entry.path(), steps),
                        Some(_) | None => Ok(()),
                    }
                })?;
                self.go(path, after)
            }
        }
    }

    fn go(&mut self, path: PathBuf, steps: &'p [Step]) -> Result<(), Error> {
        self.todo.push((path, steps));
        within_limit(self.todo.len())
    }

    fn see(&mut self, path: PathBuf) -> Result<(), Error> {
        let Some(metadata) = present(&path, fs::metadata(&path))? else { return Ok(()) };
        let path = Utf8PathBuf::from_path_buf(path).map_err(|path| Error::again(Unclear::NotUtf8(path)))?;
        self.seen.push(Seen::new(path, &metadata));
        within_limit(self.seen.len())
    }
}

fn within_limit(count: usize) -> Result<(), Error> {
    if count > MAX_MATCHES { Err(Error::fatal(Unclear::TooMany)) } else { Ok(()) }
}

/// Calls `visit` with each entry of a directory; with none where no directory is.
fn entries(path: &Path, mut visit: impl FnMut(&fs::DirEntry) -> Result<(), Error>) -> Result<(), Error> {
    for entry in present(path, fs::read_dir(path))?.into_iter().flatten() {
        if let Some(entry) = present(path, entry)? {
            visit(&entry)?;
        }
    }
    Ok(())
}

/// What was read, or nothing where nothing is. A parent that is missing, or is a file, is nothing as well: whoever
/// makes the file may make its directory first.
fn present<T>(path: &Path, read: io::Result<T>) -> Result<Option<T>, Error> {
    match read {
        Ok(what) => Ok(Some(what)),
        Err(source) if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(Error::again(Unclear::Unreadable { path: path.to_owned(), source })),
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::*;

    #[test]
    fn permission_denied_is_told_with_the_path_and_may_be_tried_again() {
        let denied: io::Result<()> = Err(io::ErrorKind::PermissionDenied.into());
        let error = present(Path::new("/data/in"), denied).expect_err("an error");
        assert!(!error.is_fatal());
        assert_eq!(error.to_string(), r#"cannot look at "/data/in": permission denied"#);
    }

    #[test]
    fn a_look_that_nobody_waits_for_stops() {
        let place = Place::pattern(Utf8Path::new("/**/*")).expect("a place");
        assert!(look(&place, || false).is_err_and(|error| !error.is_fatal()));
    }
}
