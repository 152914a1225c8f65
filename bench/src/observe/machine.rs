//! What a load takes of this machine: CPU time from the kernel, GPUs from NVML.

use std::{collections::BTreeMap, fs, time::Instant};

use bench_core::{
    hist::round,
    schema::{EnergyReading, GpuUse, MachineUse, Quantiles},
};
use nvml_wrapper::{Device, Nvml, bitmasks::device::ThrottleReasons, enum_wrappers::device::Clock};

use crate::host;

/// What a driver keeps of a GPU that nobody uses, with room for its error pages.
const IDLE_MEMORY_MIB_MAX: u64 = 1_024;

/// The machine over one load.
pub(crate) struct Machine {
    start: Instant,
    cpu_s_before: f64,
    host_before: Option<CpuTicks>,
    /// `None` where the library is absent, or the server is on another machine.
    nvml: Option<Nvml>,
    gpus: BTreeMap<String, GpuTally>,
}

impl Machine {
    /// Starts to watch; GPUs only where the server is on this machine.
    pub(crate) fn watch(base_url: &str) -> Self {
        Self {
            start: Instant::now(),
            cpu_s_before: host::cpu_time().as_secs_f64(),
            host_before: CpuTicks::now(),
            nvml: is_here(base_url).then(Nvml::init).and_then(Result::ok),
            gpus: BTreeMap::new(),
        }
    }

    /// Looks at the GPUs once.
    pub(crate) fn look(&mut self) {
        let Some(nvml) = &self.nvml else { return };
        for index in 0..nvml.device_count().unwrap_or(0) {
            let device = nvml.device_by_index(index);
            // A GPU that cannot be asked now has one look less.
            if let Some((uuid, look)) = device.ok().and_then(|device| look_at(&device)) {
                self.gpus.entry(uuid).or_default().push(self.start.elapsed().as_secs_f64(), look);
            }
        }
    }

    /// The whole account, and what was read of the energy of the GPUs in use; the load's own thread took so
    /// many cores.
    pub(crate) fn finish(
        mut self,
        client_thread_cores: f64,
        event_loop_lag: Quantiles,
    ) -> (MachineUse, Vec<EnergyReading>) {
        // The energy up to the end.
        self.look();
        let elapsed_s = self.start.elapsed().as_secs_f64();
        let client_s = host::cpu_time().as_secs_f64() - self.cpu_s_before;
        let host = self.host_before.zip(CpuTicks::now());
        let used = self.gpus.into_iter();
        let used = used.filter(|(_, tally)| tally.memory_mib_max > IDLE_MEMORY_MIB_MAX);
        let (gpus, energy): (Vec<_>, Vec<_>) = used
            .map(|(uuid, mut tally)| {
                let energy = std::mem::take(&mut tally.energy);
                (tally.finish(uuid), energy)
            })
            .unzip();
        let machine = MachineUse {
            client_thread_cores: round(client_thread_cores),
            client_cores: round(client_s / elapsed_s),
            event_loop_lag: Some(event_loop_lag).filter(|lag| lag.count > 0),
            host_busy_share: host.and_then(|(before, after)| after.busy_share_since(&before)),
            gpus,
        };
        (machine, together(&energy))
    }
}

/// Readings of several GPUs as those of one; none where a GPU lacks some.
fn together(gpus: &[Vec<EnergyReading>]) -> Vec<EnergyReading> {
    let Some((first, others)) = gpus.split_first() else { return Vec::new() };
    if others.iter().any(|other| other.len() != first.len()) {
        return Vec::new();
    }
    let mut sum = first.clone();
    for other in others {
        for (all, one) in sum.iter_mut().zip(other) {
            all.counter_j += one.counter_j;
            all.power_w = all.power_w.zip(one.power_w).map(|(a, b)| a + b);
        }
    }
    sum
}

fn is_here(base_url: &str) -> bool {
    let host = base_url.parse::<hyper::Uri>().ok();
    let host = host.as_ref().and_then(hyper::Uri::host).unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// One look at a GPU.
#[derive(Clone, Copy, Debug)]
struct GpuLook {
    busy_percent: u32,
    memory_mib: u64,
    power_mw: Option<u32>,
    /// Since the driver was loaded.
    energy_mj: Option<u64>,
    sm_clock_mhz: Option<u32>,
    throttled: ThrottleReasons,
}

fn look_at(device: &Device<'_>) -> Option<(String, GpuLook)> {
    let look = GpuLook {
        busy_percent: device.utilization_rates().ok()?.gpu,
        memory_mib: device.memory_info().ok()?.used >> 20,
        power_mw: device.power_usage().ok(),
        energy_mj: device.total_energy_consumption().ok(),
        sm_clock_mhz: device.clock_info(Clock::SM).ok(),
        throttled: device.current_throttle_reasons().unwrap_or(ThrottleReasons::NONE),
    };
    Some((device.uuid().ok()?, look))
}

/// Looks at one GPU, added up.
#[derive(Clone, Debug, Default)]
struct GpuTally {
    looks: u64,
    busy_percent: u64,
    memory_mib_max: u64,
    power_mw: Vec<u32>,
    sm_clock_mhz: Vec<u32>,
    throttled: BTreeMap<&'static str, u64>,
    energy: Vec<EnergyReading>,
}

impl GpuTally {
    fn push(&mut self, at_s: f64, look: GpuLook) {
        self.energy.extend(look.energy_mj.map(|mj| EnergyReading {
            at_s,
            counter_j: mj as f64 / 1e3,
            power_w: look.power_mw.map(|mw| f64::from(mw) / 1e3),
        }));
        self.looks += 1;
        self.busy_percent += u64::from(look.busy_percent);
        self.memory_mib_max = self.memory_mib_max.max(look.memory_mib);
        self.power_mw.extend(look.power_mw);
        self.sm_clock_mhz.extend(look.sm_clock_mhz);
        // An idle GPU lowers its clocks too, which holds nothing down.
        for (name, _) in (look.throttled - ThrottleReasons::GPU_IDLE).iter_names() {
            *self.throttled.entry(name).or_default() += 1;
        }
    }

    fn finish(self, uuid: String) -> GpuUse {
        let looks = self.looks.max(1) as f64;
        let mean = |values: &[u32]| {
            let sum: f64 = values.iter().copied().map(f64::from).sum();
            (!values.is_empty()).then(|| sum / values.len() as f64)
        };
        GpuUse {
            uuid,
            looks: self.looks,
            busy_percent_mean: round(self.busy_percent as f64 / looks),
            memory_mib_max: self.memory_mib_max,
            power_w_mean: mean(&self.power_mw).map(|mw| round(mw / 1e3)),
            sm_clock_mhz_mean: mean(&self.sm_clock_mhz).map(round),
            sm_clock_mhz_min: self.sm_clock_mhz.iter().min().copied().map(u64::from),
            throttled_share: self
                .throttled
                .into_iter()
                .map(|(name, count)| (name.to_lowercase(), round(count as f64 / looks)))
                .collect(),
        }
    }
}

/// CPU time of the whole machine, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTicks {
    busy: u64,
    all: u64,
}

impl CpuTicks {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// From the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal;
    /// what guests take is in user and nice already.
    fn parse(text: &str) -> Option<Self> {
        let ticks: Vec<u64> = text
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_ascii_whitespace()
            .take(8)
            .map(|field| field.parse().ok())
            .collect::<Option<_>>()?;
        let idle = ticks.get(3)? + ticks.get(4)?;
        let all = ticks.iter().sum();
        Some(Self { busy: all - idle, all })
    }

    fn busy_share_since(&self, before: &Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some(round(self.busy.saturating_sub(before.busy) as f64 / all as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_a_gpu_add_up() {
        let mut tally = GpuTally::default();
        for (at_s, (busy_percent, memory_mib, power_mw, sm_clock_mhz, throttled)) in
            [0.5, 1.0].into_iter().zip([
                (100, 70_000, 700_000, 1_980, ThrottleReasons::SW_POWER_CAP),
                (50, 71_000, 500_000, 1_410, ThrottleReasons::GPU_IDLE),
            ])
        {
            let (power_mw, sm_clock_mhz) = (Some(power_mw), Some(sm_clock_mhz));
            let energy_mj = Some(7_000_000 + (at_s * 600_000.0) as u64);
            let look =
                GpuLook { busy_percent, memory_mib, power_mw, energy_mj, sm_clock_mhz, throttled };
            tally.push(at_s, look);
        }
        let reading =
            |at_s, counter_j, power_w| EnergyReading { at_s, counter_j, power_w: Some(power_w) };
        let expected = [reading(0.5, 7_300.0, 700.0), reading(1.0, 7_600.0, 500.0)];
        assert_eq!(tally.energy, expected);
        let twice = [reading(0.5, 14_600.0, 1_400.0), reading(1.0, 15_200.0, 1_000.0)];
        assert_eq!(together(&[tally.energy.clone(), tally.energy.clone()]), twice);
        assert_eq!(together(&[tally.energy.clone(), Vec::new()]), [], "one of them was not read");
        let expected = GpuUse {
            uuid: "GPU-1".to_owned(),
            looks: 2,
            busy_percent_mean: 75.0,
            memory_mib_max: 71_000,
            power_w_mean: Some(600.0),
            sm_clock_mhz_mean: Some(1_695.0),
            sm_clock_mhz_min: Some(1_410),
            throttled_share: BTreeMap::from([("sw_power_cap".to_owned(), 0.5)]),
        };
        assert_eq!(tally.finish("GPU-1".to_owned()), expected);
    }

    #[test]
    fn cpu_time_is_busy_but_for_idle_and_iowait() {
        let before = CpuTicks::parse("cpu  10 0 10 100 0 0 0 0 0 0\ncpu0 1 2 3\n").expect("ticks");
        let after = CpuTicks::parse("cpu  20 5 10 115 10 0 5 5 3 0\n").expect("ticks");
        assert_eq!(after.busy_share_since(&before), Some(0.5));
        assert_eq!(before.busy_share_since(&before), None, "no time has passed");
        assert_eq!(CpuTicks::parse("cpu  1 x\n"), None);
        assert_eq!(CpuTicks::parse("intr 1\n"), None);
    }

    #[test]
    fn gpus_are_watched_only_beside_their_server() {
        for here in ["http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:8000/base"] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in ["http://10.0.0.7:8000", "http://gpu.example:8000", "no URL"] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn a_machine_without_a_gpu_has_no_samples_and_no_error() {
        let mut machine = Machine::watch("http://gpu.example:8000");
        machine.look();
        let (machine, energy) = machine.finish(0.5, Quantiles::default());
        assert_eq!((machine.gpus, energy), (Vec::new(), Vec::new()));
    }
}
