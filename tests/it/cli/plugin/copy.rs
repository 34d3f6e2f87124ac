//! The copy of `tests/plugin` that is built.
//!
//! It lies under the target folder, so that no source is written to. It gets the versions of the workspace's `Cargo.lock`
//! and the workspace's profile, and so shares with the workspace all that is compiled but the workspace's own crates.
//! Nothing is downloaded. It has two members besides: `twice`, and `unlinked`, which does not build.
//!
//! Tests run in processes of their own: a lock has them build one after the other. A file is written only when its text
//! has changed, so that cargo finds what it has built up to date.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

const WORKSPACE: &str = env!("CARGO_MANIFEST_DIR");
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// A binary with two triggers under one kind.
const TWICE: &str = r#"
use reveille::trigger::{Answer, Context, Error, Trigger, async_trait, typetag};

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Another {}

#[typetag::serde(name = "status_file")]
#[async_trait]
impl Trigger for Another {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        Ok(Answer::NotYet)
    }
}

reveille::main!(acme_triggers);
"#;

/// What its next version has in the place of what: a spec with one field more, and one step more.
const NEWER: [(&str, &str, &str); 7] = [
    ("triggers/src/lib.rs", "    says: String,\n", "    says: String,\n    #[serde(default)]\n    any_case: bool,\n"),
    ("triggers/src/lib.rs", "says: word.into(),", "says: word.into(), any_case: true,"),
    (
        "triggers/src/lib.rs",
        "if text.trim() == self.says",
        "if text.trim() == self.says || self.any_case && text.trim().eq_ignore_ascii_case(&self.says)",
    ),
    (
        "tasks/src/lib.rs",
        "    /// Publishes it.\n",
        "    /// Publishes it, and says so aloud.\n    Announce {\n        /// What the status file said.\n        said: Awaited<Said>,\n    },\n    /// Publishes it.\n",
    ),
    ("tasks/src/lib.rs", "then_with(|said| Self::Publish { said })", "then_with(|said| Self::Announce { said })"),
    (
        "tasks/src/lib.rs",
        "            Self::Publish {",
        "            Self::Announce { said } => Ok(done_with(said.get()?.word + \"!\")),\n            Self::Publish {",
    ),
    ("Cargo.toml", "name = \"acme\"", "name = \"acme_newer\""),
];

/// What cargo tells the tests that it runs. Passed on, it would have build scripts run again.
const TOLD: [&str; 4] = ["CARGO_BIN_EXE_", "CARGO_CRATE_NAME", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// Texts by their paths in a folder.
type Texts = BTreeMap<PathBuf, String>;

/// A copy of the plugin that nobody else builds meanwhile.
#[derive(Debug)]
pub(super) struct Plugin {
    folder: PathBuf,
    _lock: File,
}

/// What cargo left behind.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) succeeded: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Plugin {
    pub(super) fn new() -> Self {
        let mut texts = plugin(&Path::new(WORKSPACE).join("triggers/api"));
        let manifest = texts[Path::new("Cargo.toml")].clone();
        let with_members = manifest.replacen("members = [", r#"members = ["twice", "unlinked", "#, 1);
        let (_, package) = manifest.split_once("[package]").unwrap();
        let unlinked = package.replace("\"acme\"", "\"unlinked\"").replace("path = \"t", "path = \"../t");
        let twice = texts[Path::new("tasks/Cargo.toml")].replace("\"acme-tasks\"", "\"twice\"");
        texts.extend(
            [
                ("Cargo.toml", with_members + &profile()),
                ("unlinked/Cargo.toml", format!("[package]{unlinked}")),
                ("unlinked/src/main.rs", "reveille::main!(acme_tasks);\n".to_owned()),
                ("twice/Cargo.toml", twice),
                ("twice/src/main.rs", TWICE.to_owned()),
            ]
            .map(|(path, text)| (path.into(), text)),
        );
        Self::of("plugin", &texts)
    }

    /// Its next version.
    pub(super) fn newer() -> Self {
        let mut texts = plugin(&Path::new(WORKSPACE).join("triggers/api"));
        for (path, old, new) in NEWER {
            let text = texts.get_mut(Path::new(path)).unwrap();
            assert!(text.contains(old), "{path} does not have {old:?} any more");
            *text = text.replacen(old, new, 1);
        }
        // Where it is does not tell its crates from those of the first version, to cargo.
        for (_, text) in texts.iter_mut().filter(|(path, _)| path.ends_with("Cargo.toml")) {
            *text = text.replacen("version = \"1.0.0\"", "version = \"2.0.0\"", 1);
        }
        texts.get_mut(Path::new("Cargo.toml")).unwrap().push_str(&profile());
        Self::of("newer", &texts)
    }

    /// One with a trigger that was written against another version of the trigger crate.
    pub(super) fn against_another_trigger_crate() -> Self {
        let another = Path::new(FOLDER).join("another");
        let texts = plugin(&another.join("triggers/api"));
        let plugin = Self::of("against_another", &texts);

        let manifest = manifest();
        let (workspace, _) = manifest.split_once("\n[package]\n").unwrap();
        let (_, inherited) = workspace.split_once("resolver").unwrap();
        let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
        let inherited = inherited.replacen(version, "version = \"0.0.1\"", 1);
        let text = format!("[workspace]\nmembers = [\"triggers/api\"]\nresolver{inherited}");
        write(&another, &[("Cargo.toml".into(), text)].into());
        write(&another.join("triggers/api"), &read(&Path::new(WORKSPACE).join("triggers/api")));
        plugin
    }

    fn of(name: &str, texts: &Texts) -> Self {
        let folder = Path::new(FOLDER).join(name);
        fs::create_dir_all(&folder).unwrap();
        let lock = File::create(Path::new(FOLDER).join("plugins.lock")).unwrap();
        lock.lock().unwrap();
        for path in read(&folder).keys().filter(|path| !texts.contains_key(*path)) {
            fs::remove_file(folder.join(path)).unwrap();
        }
        write(&folder, texts);
        Self { folder, _lock: lock }
    }

    /// All that is in it.
    pub(super) fn texts(&self) -> Vec<String> {
        read(&self.folder).into_values().collect()
    }

    /// Builds, and answers with the path of one of the binaries.
    pub(super) fn build(self, binary: &str) -> PathBuf {
        let built = self.cargo(&["build", "--package", binary]);
        assert!(built.succeeded, "{built:#?}");
        target().join("debug").join(binary)
    }

    pub(super) fn cargo(&self, arguments: &[&str]) -> Built {
        // Each time anew: cargo adds the plugin's own packages to it.
        fs::copy(Path::new(WORKSPACE).join("Cargo.lock"), self.folder.join("Cargo.lock")).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&self.folder).args(arguments).args(["--offline", "--color", "never"]);
        cargo.arg("--target-dir").arg(target());
        for (name, _) in env::vars_os() {
            if TOLD.iter().any(|told| name.to_string_lossy().starts_with(told)) {
                cargo.env_remove(name);
            }
        }
        let output = cargo.output().unwrap();
        Built {
            succeeded: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The plugin, as it is found elsewhere than beside the crates that it depends on.
fn plugin(trigger_crate: &Path) -> Texts {
    let mut texts = read(&Path::new(WORKSPACE).join("tests/plugin"));
    for text in texts.values_mut() {
        *text = text
            .replace("\"../../../triggers/api\"", &format!("\"{}\"", trigger_crate.display()))
            .replace("\"../../..\"", &format!("\"{WORKSPACE}\""))
            .replace("\"../..\"", &format!("\"{WORKSPACE}\""));
    }
    texts
}

/// The workspace's profile, in which its own crates are no dependencies like others.
fn profile() -> String {
    let manifest = manifest();
    let (_, profiles) = manifest.split_once("[profile.dev]").unwrap();
    let (dev, _) = profiles.split_once("[profile.release]").unwrap();
    let own = manifest.lines().filter_map(|line| line.split_once(" = { path = \"triggers/"));
    let own = own.map(|(name, _)| name).chain(["reveille"]);
    let own: Vec<_> = own.map(|name| format!("[profile.dev.package.{name}]\nopt-level = 0\n")).collect();
    format!("\n[profile.dev]{dev}{}", own.concat())
}

fn manifest() -> String {
    fs::read_to_string(Path::new(WORKSPACE).join("Cargo.toml")).unwrap()
}

/// The target folder of the workspace.
fn target() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_reveille")).ancestors().nth(2).unwrap()
}

fn read(folder: &Path) -> Texts {
    let mut texts = Texts::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        // What is left where somebody has built it in its place.
        if ["target", "Cargo.lock"].iter().any(|left| name == Path::new(left)) {
            continue;
        }
        if path.is_dir() {
            texts.extend(read(&path).into_iter().map(|(path, text)| (name.join(path), text)));
        } else {
            texts.insert(name, fs::read_to_string(path).unwrap());
        }
    }
    texts
}

fn write(folder: &Path, texts: &Texts) {
    for (path, text) in texts {
        let path = folder.join(path);
        if fs::read_to_string(&path).is_ok_and(|there| there == *text) {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
