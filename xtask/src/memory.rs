//! The memory that a simulated load takes, against what there is: a load that does not fit is refused
//! before anything starts, where it would end without a word.

use std::fs;

use bench_core::schema::{Arrival, LoadSpec, Size};

/// Bytes a request: one that waits in a server or its client, and one that is done.
/// (Measured with `xtask suite` on 10^6 and 3·10^6 requests of the model `tiny`, 2026-11-28: 520 to 530
/// all at once, 46 to 81 by the other processes.)
const WAITING_BYTES: u64 = 540;
const DONE_BYTES: u64 = 80;

/// What a load takes at its peak. A closed loop with a duration has no number of requests, and takes
/// what its answers do.
fn load_bytes(load: &LoadSpec) -> u64 {
    match (load.size, &load.arrival) {
        (Size::Requests(count), Arrival::AllAtOnce {}) => u64::from(count) * WAITING_BYTES,
        (Size::Requests(count), _) => u64::from(count) * DONE_BYTES,
        (Size::DurationMs(_), _) => 0,
    }
}

/// Why these loads, each with its role, do not fit into so many free bytes where so many run at once;
/// `None` where they do.
pub fn refusal<'a>(
    loads: impl IntoIterator<Item = (&'a str, &'a LoadSpec)>,
    at_once: usize,
    free_bytes: u64,
) -> Option<String> {
    let (role, load) = loads.into_iter().max_by_key(|(_, load)| load_bytes(load))?;
    let bytes = load_bytes(load).saturating_mul(at_once as u64);
    let Size::Requests(requests) = load.size else { return None };
    (bytes > free_bytes).then(|| {
        format!(
            "{role}: {requests} requests take about {} of memory in {at_once} simulated servers at \
             once, and {} are free: ask for fewer `requests`, or let them arrive at a rate",
            size(bytes),
            size(free_bytes)
        )
    })
}

/// Bytes that this process and its children may still take.
pub fn free_bytes() -> u64 {
    let read = |path: &str| fs::read_to_string(path).ok();
    let available = read("/proc/meminfo").and_then(|text| available(&text));
    // The limit of a container.
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    let own = rustix::process::getrlimit(rustix::process::Resource::As).current;
    [available, group, own].into_iter().flatten().min().unwrap_or(u64::MAX)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn size(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use bench_core::schema::RequestShape;

    use super::*;

    fn load(requests: u32, arrival: Arrival) -> LoadSpec {
        LoadSpec {
            poll_ms: None,
            reader_threads: None,
            answers: None,
            arrival,
            size: Size::Requests(requests),
            classes: Vec::new(),
            seed: 0,
            request: RequestShape::default(),
            data: None,
            conversation: None,
            max_concurrency: None,
            goodput: None,
        }
    }

    #[test]
    fn a_load_that_does_not_fit_is_refused_with_what_it_takes() {
        let small = load(10, Arrival::AllAtOnce {});
        let large = load(10_000_000, Arrival::AllAtOnce {});
        let loads = || [("default/small/0", &small), ("default/burst/0", &large)];
        assert_eq!(
            refusal(loads(), 2, 3_000_000_000).expect("too much"),
            "default/burst/0: 10000000 requests take about 10.1 GiB of memory in 2 simulated servers \
             at once, and 2.8 GiB are free: ask for fewer `requests`, or let them arrive at a rate"
        );
        assert_eq!(refusal(loads(), 2, 1 << 40), None);
        let closed = load(10_000_000, Arrival::ClosedLoop { concurrency: 8 });
        assert_eq!(refusal([("default/closed/0", &closed)], 2, 3_000_000_000), None);
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(available("MemTotal: 1 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available("nothing"), None);
    }
}
