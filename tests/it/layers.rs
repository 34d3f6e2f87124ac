//! Who may use whom, held by reading the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const WORDS: [&str; 6] = ["id", "error", "clock", "task", "kind", "vault"];
const STORE: [&str; 1] = ["store"];
/// What roles share. `life` is among them for the token that tells a role to stop.
const SHARED: [&str; 9] = ["aside", "commits", "lag", "life", "metrics", "outage", "presence", "tally", "upkeep"];
const ROLES: [&str; 2] = ["triggerer", "worker"];
const EDGE: [&str; 5] = ["bench", "cli", "demo", "outside", "telemetry"];

/// The most lines of one file.
const LONGEST: usize = 500;

/// The modules that one may use; `None` if it has no place in the house.
fn allowed(module: &str) -> Option<Vec<&str>> {
    let allowed = if WORDS.contains(&module) {
        WORDS.to_vec()
    } else if STORE.contains(&module) {
        [&WORDS[..], &STORE].concat()
    } else if SHARED.contains(&module) {
        [&WORDS[..], &STORE, &SHARED].concat()
    } else if ROLES.contains(&module) {
        // Roles meet in the database, and never import one another.
        let this = ROLES.iter().position(|role| *role == module)?;
        [&WORDS[..], &STORE, &SHARED, &ROLES[this..=this]].concat()
    } else if EDGE.contains(&module) {
        [&WORDS[..], &STORE, &SHARED, &ROLES, &EDGE].concat()
    } else {
        return None;
    };
    Some(allowed)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The module at the top of `src` that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    Path::new(inside.components().next().unwrap().as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
}

/// The first words after each `crate::`, those of a group in braces included.
fn uses(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            found.insert(word(after));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if c.is_whitespace() => {}
                _ if start && depth == 0 => {
                    found.insert(word(&group[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn what_a_source_uses_is_found() {
    let code = "use crate::{\n    clock::{Clock, millis},\n    error::Result, id::TaskId,\n};\nuse crate::store::Db; x(crate::cli::go())";
    assert_eq!(uses(code).into_iter().collect::<Vec<_>>(), ["cli", "clock", "error", "id", "store"]);
}

#[test]
fn each_layer_uses_only_those_before_it() {
    let mut breaches = Vec::new();
    for path in sources(&root().join("src")) {
        let module = module(&path);
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let Some(allowed) = allowed(&module) else {
            breaches.push(format!("{module} has no place in the house: give it one in tests/it/layers.rs"));
            continue;
        };
        for used in uses(&code(&path)) {
            // What is exported at the top is not a module, and a macro is nobody's.
            let is_module = [&WORDS[..], &STORE, &SHARED, &ROLES, &EDGE].concat().contains(&used.as_str());
            if is_module && !allowed.contains(&used.as_str()) {
                breaches.push(format!("{} uses {used}", path.display()));
            }
            if !is_module && used.starts_with(char::is_uppercase) && WORDS.contains(&module.as_str()) {
                let own = ["Error", "Result"].contains(&used.as_str());
                assert!(own, "{} takes {used} from the top, which hides its layer", path.display());
            }
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn only_the_store_uses_sqlx() {
    let names_it: Vec<_> = sources(&root().join("src"))
        .into_iter()
        .filter(|path| module(path) != "store" && code(path).contains("sqlx::"))
        .collect();
    assert!(names_it.is_empty(), "{names_it:?}");
}

#[test]
fn no_file_is_too_long_to_proofread() {
    let folders = ["src", "triggers"].map(|folder| root().join(folder));
    let long: Vec<_> = folders
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > LONGEST)
        .collect();
    assert!(long.is_empty(), "over {LONGEST} lines: {long:#?}");
}
