//! What this process uses.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// The CPU time that it has had until now, of all its threads, in user and kernel.
pub(super) fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec.try_into().expect("nanoseconds are below a second"))
}

/// The memory that it has now, in bytes, where the system tells.
pub(super) fn rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    Some(kib.parse::<u64>().ok()? * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_seen() {
        let (cpu_before, rss_before) = (cpu(), rss().unwrap());
        // Memory counts once it is written to.
        let taken = vec![1_u8; 64 << 20];
        assert!(taken.iter().map(|byte| u64::from(*byte)).sum::<u64>() == 64 << 20);
        assert!(rss().unwrap() >= rss_before + (32 << 20));
        assert!(cpu() > cpu_before);
    }
}
