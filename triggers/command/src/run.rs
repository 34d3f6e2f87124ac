//! One run of a program, from its start to its end.

use std::{
    collections::BTreeMap,
    io,
    process::{ExitStatus, Stdio},
};

use camino::Utf8Path;
use tokio::process::Command;

use crate::{
    group::Group,
    output::{Head, Tail},
};

/// The variables of the triggerer that a program sees.
const PASSED_ON: [&str; 3] = ["PATH", "HOME", "LANG"];

/// How a program ended, and what it wrote.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Head,
    pub(crate) stderr: Tail,
}

/// Runs a program to its end. Dropped, it leaves the group to be ended.
pub(crate) async fn run(argv: &[String], env: &BTreeMap<String, String>, directory: &Utf8Path) -> io::Result<Ran> {
    let (name, args) = argv.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
    let mut command = Command::new(name);
    command.args(args).current_dir(directory).env_clear();
    command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?)))).envs(env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());

    let mut group = Group::start(command)?;
    let (mut stdout, mut stderr) = (Head::default(), Tail::default());
    let status = group.ended(&mut stdout, &mut stderr).await?;
    Ok(Ran { status, stdout, stderr })
}
