//! What this machine is, and what a process takes of it.

use std::{fs, time::Duration};

use bench_core::schema::Host;
use rustix::{
    process::{Pid, Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

/// What tells this host from another.
pub(crate) fn identity() -> Host {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let uname = rustix::system::uname();
    Host {
        cpu: field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        kernel: format!(
            "{} {}",
            uname.sysname().to_string_lossy(),
            uname.release().to_string_lossy()
        ),
        bench: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The first value of `name : value` lines.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

/// CPU time of this process, all threads together.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of this thread.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of another process's first thread; `None` where the system does not say.
pub(crate) fn cpu_time_of(pid: Pid) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", pid.as_raw_nonzero())).ok()?;
    Some(Duration::from_nanos(text.split_ascii_whitespace().next()?.parse().ok()?))
}

/// Largest resident set of this process so far, in MiB.
pub(crate) fn memory_mib_max() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib: f64 = field(&status, "VmHWM")?.trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// Lets timers of this thread fire on time: by default the kernel may let them wait for 50 µs, to
/// wake up for several at once.
pub(crate) fn wake_on_time() {
    #[cfg(target_os = "linux")]
    {
        // Without it they are late, which shows as send lag.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    }
}

/// Keeps a process, `None` for this thread and those it starts, on some cores.
pub(crate) fn pin(pid: Option<Pid>, cores: &[usize]) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(pid, &set)
}

/// Cores that this thread may run on.
pub(crate) fn cores() -> rustix::io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Allows as many open files as the system does: every stream is a socket.
pub(crate) fn raise_open_files_limit() -> rustix::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "model"), None);
        assert_eq!(field("VmHWM:\t  3812 kB\n", "VmHWM"), Some("3812 kB"));
    }
}
