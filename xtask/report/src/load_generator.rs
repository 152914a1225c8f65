//! What the load generator can do on the host that measured.

use bench_core::schema::{Arrival, Calibration};
use serde::Serialize;

use super::{Inputs, format};

/// The figures that matter for this run.
#[derive(Debug, Serialize)]
pub struct CalibrationView {
    host: String,
    date: String,
    tokens_per_s: String,
    accuracy: Option<AccuracyView>,
}

/// The load generator's error at a rate like that of the run.
#[derive(Debug, Serialize)]
struct AccuracyView {
    /// The highest of the run, in requests/s.
    run_rate: String,
    /// The next higher one that was calibrated, or the highest.
    rate: u32,
    ttft_p50_error_ms: String,
    ttft_p99_error_ms: String,
    itl_error_percent: String,
    send_lag_p99_ms: String,
}

impl CalibrationView {
    pub fn new(inputs: &Inputs<'_>, calibration: &Calibration) -> Self {
        let host = &calibration.host;
        let most = calibration.ceilings.iter().map(|ceiling| ceiling.tokens_per_s);
        let rates = inputs.profile.loads.iter().filter_map(|load| match &load.spec.arrival {
            Arrival::Poisson { requests_per_second }
            | Arrival::Gamma { requests_per_second, .. }
            | Arrival::Constant { requests_per_second } => Some(requests_per_second.to_f64()),
            Arrival::Ramp { requests_per_second_end, .. } => Some(requests_per_second_end.to_f64()),
            _ => None,
        });
        Self {
            host: format!("{}, {} cores, {}", host.cpu, host.cpus, host.kernel),
            date: calibration.measured_at.split('T').next().unwrap_or_default().to_owned(),
            tokens_per_s: format::number(most.fold(0.0, f64::max), 0),
            accuracy: rates.reduce(f64::max).and_then(|rate| AccuracyView::at(rate, calibration)),
        }
    }
}

impl AccuracyView {
    fn at(run_rate: f64, calibration: &Calibration) -> Option<Self> {
        let rows = &calibration.accuracy;
        let accuracy = rows
            .iter()
            .filter(|row| f64::from(row.requests_per_second) >= run_rate)
            .min_by_key(|row| row.requests_per_second)
            .or(rows.iter().max_by_key(|row| row.requests_per_second))?;
        let itl = accuracy.itl_mean_ms;
        Some(Self {
            run_rate: format::number(run_rate, 1),
            rate: accuracy.requests_per_second,
            ttft_p50_error_ms: format::signed(accuracy.ttft_p50_ms.error(), 2),
            ttft_p99_error_ms: format::signed(accuracy.ttft_p99_ms.error(), 2),
            itl_error_percent: format::signed(100.0 * itl.error() / itl.server, 2),
            send_lag_p99_ms: format::number(accuracy.send_lag_p99_ms, 2),
        })
    }
}
