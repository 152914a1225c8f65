//! `arrival` of a load: when requests are sent.

use bench_core::{decimal::Decimal, schema::Arrival};

use super::read::{At, Item};

pub(super) const CONCURRENCY_MAX: u32 = 1_000_000;
pub(super) const DURATION_S_MAX: i64 = 7 * 24 * 3600;

const RATE_MAX: i64 = 1_000_000;
const BURSTINESS_MAX: i64 = 1_000_000;
const SPEED_UP_MAX: i64 = 1_000_000;

#[derive(Clone, Copy)]
pub(super) enum Process {
    AllAtOnce,
    Poisson,
    Gamma,
    Constant,
    Ramp,
    Replay,
    ClosedLoop,
}

pub(super) const PROCESSES: [(&str, Process); 7] = [
    ("all-at-once", Process::AllAtOnce),
    ("poisson", Process::Poisson),
    ("gamma", Process::Gamma),
    ("constant", Process::Constant),
    ("ramp", Process::Ramp),
    ("replay", Process::Replay),
    ("closed-loop", Process::ClosedLoop),
];

/// Reads an arrival process: its name alone, or a table with its name and figures.
pub(super) fn read(item: &Item<'_>) -> Option<At<Arrival>> {
    let span = item.span();
    if matches!(item.raw(), toml::de::DeValue::String(_)) {
        return match item.choice(&PROCESSES)?.value {
            Process::AllAtOnce => Some(At { value: Arrival::AllAtOnce {}, span }),
            Process::Replay => {
                Some(At { value: Arrival::Replay { speed_up: Decimal::from_int(1)? }, span })
            }
            _ => {
                item.report(
                    "this arrival process takes more than its name",
                    "expected a table such as { process = \"poisson\", requests_per_second = 5 }",
                );
                None
            }
        };
    }
    let mut table = item.table("`arrival`")?;
    let process =
        table.require("process", "process = \"poisson\", or another")?.choice(&PROCESSES)?;
    let mut rate = |key: &'static str| {
        table.require(key, &format!("{key} = N")).and_then(|item| item.positive_decimal(RATE_MAX))
    };
    let arrival = match process.value {
        Process::AllAtOnce => Some(Arrival::AllAtOnce {}),
        Process::Poisson => rate("requests_per_second")
            .map(|requests_per_second| Arrival::Poisson { requests_per_second }),
        Process::Constant => rate("requests_per_second")
            .map(|requests_per_second| Arrival::Constant { requests_per_second }),
        Process::Gamma => {
            let requests_per_second = rate("requests_per_second");
            let burstiness = table
                .require("burstiness", "burstiness = 1 for Poisson, less for bursts")
                .and_then(|item| item.positive_decimal(BURSTINESS_MAX));
            requests_per_second.zip(burstiness).map(|(requests_per_second, burstiness)| {
                Arrival::Gamma { requests_per_second, burstiness }
            })
        }
        Process::Ramp => {
            let start = rate("requests_per_second_start");
            start.zip(rate("requests_per_second_end")).map(|(start, end)| Arrival::Ramp {
                requests_per_second_start: start,
                requests_per_second_end: end,
            })
        }
        Process::Replay => match table.get("speed_up") {
            Some(item) => item.positive_decimal(SPEED_UP_MAX),
            None => Decimal::from_int(1),
        }
        .map(|speed_up| Arrival::Replay { speed_up }),
        Process::ClosedLoop => table
            .require("concurrency", "concurrency = requests in flight")
            .and_then(|item| item.integer_u32(1..=CONCURRENCY_MAX))
            .map(|concurrency| Arrival::ClosedLoop { concurrency }),
    };
    table.finish(|_| None);
    arrival.map(|value| At { value, span })
}
