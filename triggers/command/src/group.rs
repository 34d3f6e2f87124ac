//! The processes of one run: the program, and all that it started and that stayed in its process group.
//!
//! The rule: a signal is sent to a group only while its leader has not been reaped, since until then no other group can
//! have its number. So the leader's end is watched without reaping it, the rest of the group is killed, and only then
//! the leader is reaped, by tokio.

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    process::{Child, ChildStderr, ChildStdout, Command},
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tracing::Instrument;

use crate::output::{Head, Tail, drain};

/// How long a program has, once it was asked to end.
const GRACE: Duration = Duration::from_secs(2);

/// How long a pipe may stay open when its group is gone: a process that left the group may hold it for as long as it
/// likes.
const LAST_READ: Duration = Duration::from_millis(500);

/// A group that runs. Dropped, it is asked to end, and killed when it has not after [`GRACE`].
pub(crate) struct Group(Option<Processes>);

impl Group {
    /// Starts a program, whose output is piped, as the leader of a group of its own.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        let mut leader = command.process_group(0).spawn()?;
        let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (Some(id), Some(stdout), Some(stderr)) = (id, leader.stdout.take(), leader.stderr.take()) else {
            return Err(io::Error::other("a program that was started has no process id, or no pipes"));
        };
        Ok(Self(Some(Processes { _leader: leader, id, stdout, stderr })))
    }

    /// Waits until the leader has ended, and kills what is left of the group. Keeps the head of its standard output, and
    /// the tail of its standard error.
    pub(crate) async fn ended(&mut self, head: &mut Head, tail: &mut Tail) -> io::Result<ExitStatus> {
        let Some(processes) = &mut self.0 else { return Err(io::Error::other("its end was seen before")) };
        let status = processes.ended(head, tail).await?;
        self.0 = None;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(processes) = self.0.take() else { return };
        // Without a runtime nothing can wait for the grace to pass: the processes are dropped, which kills them. So they
        // are when the runtime ends and drops what was spawned.
        if let Ok(runtime) = Handle::try_current() {
            let span = tracing::debug_span!("ending a command", pid = processes.id.as_raw_nonzero());
            runtime.spawn(processes.end().instrument(span));
        }
    }
}

/// The group itself. Dropped, it is killed, and tokio reaps its leader.
struct Processes {
    /// Never waited for, which would reap it: dropped in the end.
    _leader: Child,
    id: Pid,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Processes {
    /// Asks all to end, and kills those that are left when the leader has ended, or when the grace is over. What they
    /// write meanwhile is read: a program that is not heard would die of the pipe and not finish what it does to end.
    async fn end(mut self) {
        send(self.id, Signal::TERM);
        if let Ok(Err(error)) = timeout(GRACE, self.ended(&mut Head::default(), &mut Tail::default())).await {
            tracing::warn!("cannot wait for the end of a command, which is killed at once: {error}");
        }
    }

    async fn ended(&mut self, head: &mut Head, tail: &mut Tail) -> io::Result<ExitStatus> {
        let Self { id, stdout, stderr, .. } = self;
        let reading = async { tokio::try_join!(drain(stdout, |it| head.keep(it)), drain(stderr, |it| tail.keep(it))) };
        tokio::pin!(reading);
        let status = tokio::select! {
            read = &mut reading => {
                read?;
                return leader_ended(*id).await;
            }
            status = leader_ended(*id) => status?,
        };
        send(*id, Signal::KILL);
        if let Ok(read) = timeout(LAST_READ, reading).await {
            read?;
        }
        Ok(status)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        send(self.id, Signal::KILL);
    }
}

/// Waits for the leader's end, and leaves it unreaped.
async fn leader_ended(id: Pid) -> io::Result<ExitStatus> {
    // Listening before looking, so that no end falls in between.
    let mut some_child_ended = signal(SignalKind::child())?;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        if let Some(end) = waitid(WaitId::Pid(id), look)? {
            // As `wait` encodes it: the code in the second byte, or the signal in the first.
            let code = end.exit_status().map(|code| code << 8);
            return Ok(ExitStatus::from_raw(code.or(end.terminating_signal()).unwrap_or_default()));
        }
        some_child_ended.recv().await;
    }
}

/// Reaches whoever is left in the group, which may be nobody.
fn send(id: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(id, signal) {
        tracing::debug!("no process of group {id} got a signal: {error}");
    }
}
