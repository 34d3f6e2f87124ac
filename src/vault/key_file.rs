//! The key file: reading it, and making it once.
//!
//! The rule that keeps it right: a key file appears under its name whole and on disk, or not at all, and is never
//! written again. Whoever finds it reads the one key that all others read.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::Ring;
use super::error::{LineFault, VaultError};
use super::key::{KEY_LEN, Key, random};

/// The longest key file that is read, in bytes: some two hundred keys.
pub(super) const MAX_LEN: usize = 16 * 1024;

const PREAMBLE: &str = "\
# Reveille seals what it stores with the first key here, and opens it with any of them.
# Without its key a database cannot be read: keep a copy of this file, apart from the database.
";

pub(super) fn read_or_create(path: &Path) -> Result<Ring, VaultError> {
    match read(path) {
        Err(VaultError::ReadKeyFile { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(path).map_err(|source| VaultError::CreateKeyFile { path: path.to_owned(), source })?;
            read(path)
        }
        other => other,
    }
}

pub(super) fn read(path: &Path) -> Result<Ring, VaultError> {
    parse(path, &text(path)?)
}

/// Reads the file, if it is one that its owner alone can read.
fn text(path: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let unreadable = |source| VaultError::ReadKeyFile { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        // Or a pipe would hold up the opening until somebody writes to it.
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(unreadable)?;
    // Asked of the open file, so that what is judged is what is read.
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() {
        return Err(VaultError::NotAFile { path: path.to_owned() });
    }
    if mode & 0o077 != 0 {
        return Err(VaultError::Exposed { path: path.to_owned(), mode });
    }
    // With room for more than is ever read, the buffer never grows, which would leave a copy of the keys behind.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * MAX_LEN));
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > MAX_LEN {
        return Err(VaultError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

fn parse(path: &Path, text: &[u8]) -> Result<Ring, VaultError> {
    let mut keys: Vec<(usize, Key)> = Vec::new();
    for (line, content) in (1..).zip(text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)) {
        if content.is_empty() || content.starts_with(b"#") {
            continue;
        }
        let key = key(content).and_then(|key| match keys.iter().find(|(_, known)| known.id() == key.id()) {
            Some(&(first, _)) => Err(LineFault::Repeated { first }),
            None => Ok(key),
        });
        keys.push((line, key.map_err(|fault| VaultError::Line { path: path.to_owned(), line, fault })?));
    }
    let mut keys = keys.into_iter().map(|(_, key)| key);
    let sealing = keys.next().ok_or_else(|| VaultError::NoKey { path: path.to_owned() })?;
    Ok(Ring { sealing, opening: keys.collect() })
}

/// Reads `key = <64 hex digits>`.
fn key(line: &[u8]) -> Result<Key, LineFault> {
    let value = line.strip_prefix(b"key").and_then(|rest| rest.trim_ascii_start().strip_prefix(b"="));
    let digits = value.ok_or(LineFault::NotAKey)?.trim_ascii_start();
    if digits.len() != 2 * KEY_LEN {
        return Err(LineFault::Length { length: digits.len() });
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(LineFault::NotHex);
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    for (byte, [high, low]) in bytes.iter_mut().zip(digits.as_chunks().0) {
        *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
    }
    Ok(Key::new(&bytes))
}

/// Makes a key file with a fresh key, unless somebody else is first.
fn create(path: &Path) -> io::Result<()> {
    let directory = directory_of(path);
    create_directory(directory)?;
    let draft = directory.join(format!(".reveille-key-{:016x}", u64::from_ne_bytes(*random())));
    // A hard link appears at once with all its content, and never takes the place of another file.
    let linked = write(&draft).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    removed?;
    // Also if another process was first: it may not have come to this yet, and the key is used from now on.
    sync(directory)
}

fn write(draft: &Path) -> io::Result<()> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    text.push_str(PREAMBLE);
    text.push_str("key = ");
    for byte in random::<KEY_LEN>().iter() {
        write!(text, "{byte:02x}").expect("a string takes what is written to it");
    }
    text.push('\n');
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes a directory and those above it that are missing, for the owner alone.
fn create_directory(directory: &Path) -> io::Result<()> {
    let is_missing = |above: &&Path| !above.as_os_str().is_empty() && !above.is_dir();
    let missing: Vec<_> = directory.ancestors().take_while(is_missing).collect();
    for directory in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        sync(directory_of(directory))?;
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Brings the names in a directory to disk.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::Barrier;
    use std::thread;

    use tempfile::TempDir;

    use super::super::{Purpose, Vault};
    use super::*;

    const ONES: &str = "0101010101010101010101010101010101010101010101010101010101010101";
    const TWOS: &str = "0202020202020202020202020202020202020202020202020202020202020202";

    fn key_file(text: &str, mode: u32) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn refusal(text: &str) -> String {
        let (directory, path) = key_file(text, 0o600);
        let error = Vault::read(&path).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("0101"), "no part of a key is shown");
        error.to_string().replace(directory.path().to_str().unwrap(), "DIR")
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let upper = TWOS.to_uppercase();
        let (_directory, path) = key_file(&format!("# old\n\n  key={ONES}\r\n\tkey  =  {upper}\n"), 0o600);
        let vault = Vault::read(path).unwrap();
        assert_eq!(format!("{vault:?}"), "Vault[b0a53bc9, ad26ec32]");
    }

    #[test]
    fn a_wrong_line_is_named_and_what_is_wrong_with_it() {
        let short = &ONES[1..];
        for (text, line, expected) in [
            (format!("{ONES}\n"), 1, "expected `key = ` and 64 hex digits, or a comment that begins with #"),
            (format!("#\nkeys = {ONES}"), 2, "expected `key = ` and 64 hex digits, or a comment that begins with #"),
            ("#\n#\nkey =\n".to_owned(), 3, "the key has 0 characters: write 64 hex digits"),
            (format!("key = {short}\n"), 1, "the key has 63 characters: write 64 hex digits"),
            (format!("key = {ONES} # mine"), 1, "the key has 71 characters: write 64 hex digits"),
            (format!("key = {short}g"), 1, "the key has a character that is not a hex digit: use 0-9 and a-f alone"),
            (
                format!("key = {ONES}\nkey = {TWOS}\nkey = {ONES}"),
                3,
                "the key has the same id as the one in line 1: remove one of them",
            ),
        ] {
            assert_eq!(refusal(&text), format!("key file DIR/key, line {line}: {expected}"));
        }
    }

    #[test]
    fn a_file_without_a_key_or_too_long_is_refused() {
        for text in ["", "# key = 01\n"] {
            assert!(refusal(text).starts_with("key file DIR/key has no key: restore it from a copy"));
        }
        assert!(refusal(&"#".repeat(MAX_LEN + 1)).starts_with("key file DIR/key is longer than 16384 bytes"));
    }

    #[test]
    fn a_file_with_rights_for_others_is_refused() {
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            let (_directory, path) = key_file(&format!("key = {ONES}"), mode);
            let shown = path.display();
            let expected = format!("key file {shown} can be read by others (mode {mode:04o}): run chmod 600 {shown}");
            assert_eq!(Vault::read(&path).unwrap_err().to_string(), expected);
        }
        for mode in [0o600, 0o400] {
            let (_directory, path) = key_file(&format!("key = {ONES}"), mode);
            Vault::read(path).unwrap();
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, directory.path()] {
            assert!(matches!(Vault::read_or_create(path), Err(VaultError::NotAFile { .. })));
        }
    }

    #[test]
    fn a_missing_file_is_only_made_when_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/deep/key");
        assert!(matches!(Vault::read(&path), Err(VaultError::ReadKeyFile { .. })));
        assert!(!directory.path().join("new").exists());

        let made = Vault::read_or_create(&path).unwrap();

        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&directory.path().join("new")), 0o700);
        assert_eq!(mode(&directory.path().join("new/deep")), 0o700);
        let found = Vault::read_or_create(&path).unwrap();
        assert_eq!(*found.open(Purpose::Step, &made.seal(Purpose::Step, b"kept")).unwrap(), b"kept");
    }

    #[test]
    fn a_file_that_is_there_is_never_replaced() {
        let (directory, path) = key_file("key = short", 0o600);
        assert!(matches!(Vault::read_or_create(&path), Err(VaultError::Line { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "key = short");

        let dangling = directory.path().join("dangling");
        symlink(directory.path().join("nowhere"), &dangling).unwrap();
        assert!(matches!(Vault::read_or_create(&dangling), Err(VaultError::ReadKeyFile { .. })));
    }

    #[test]
    fn many_that_start_at_once_end_with_one_key() {
        for _ in 0..20 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("state/key");
            let barrier = Barrier::new(8);
            let vaults: Vec<Vault> = thread::scope(|scope| {
                let start = || {
                    barrier.wait();
                    Vault::read_or_create(&path).unwrap()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });

            let canary = vaults[0].seal_canary();
            for vault in &vaults {
                vault.check_canary(&canary).unwrap();
            }
            let entries = fs::read_dir(directory_of(&path)).unwrap();
            let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["key"], "no draft is left behind");
        }
    }
}
