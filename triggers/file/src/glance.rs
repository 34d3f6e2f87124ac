//! A glance at a path: what the kernel knows of it by heart, told without waiting for any disk or server.
//!
//! Most looks find nothing, again and again, and what was looked for and not found the kernel remembers. Such an answer
//! needs no thread that may block, and handing a look to one costs ten times as much as the look. Nothing else is taken
//! from a glance: whatever is there, or is not known, is for a look to see.

use camino::Utf8Path;

/// Whether it is known that nothing is at this absolute path. `false` says nothing: file systems such as tmpfs don't
/// remember what they don't have, and network file systems only as long as they may.
#[cfg(target_os = "linux")]
pub(crate) fn is_missing(path: &Utf8Path) -> bool {
    use rustix::{
        fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
        io::Errno,
    };
    if !path.is_absolute() {
        return false;
    }
    // Under `CACHED`, which Linux has since 5.12, it fails with EAGAIN rather than wait.
    let opened = openat2(CWD, path.as_std_path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::CACHED);
    matches!(opened, Err(Errno::NOENT))
}

/// No other system tells without waiting.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_missing(_: &Utf8Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::*;

    #[test]
    fn what_is_there_is_never_missing() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = Utf8PathBuf::from_path_buf(folder.path().join("late")).expect("UTF-8");
        for _ in 0..100 {
            // The look that has the kernel remember that there is nothing.
            assert!(!path.exists());
            is_missing(&path);
            std::fs::write(&path, "").expect("written");
            assert!(!is_missing(&path));
            std::fs::remove_file(&path).expect("removed");
        }
        assert!(!is_missing(Utf8Path::new("relative")) && !is_missing(Utf8Path::new("/\0")));
    }
}
