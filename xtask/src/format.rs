//! Numbers as people read them.

use bench_core::{metric::Metric, schema::Estimate};

/// A number with thousands separated and three or more significant digits.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    let digits = match magnitude {
        m if m >= 100.0 || m == 0.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("−", rest));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let fraction = fraction.map(|digits| format!(".{digits}")).unwrap_or_default();
    format!("{sign}{grouped}{fraction}")
}

/// A metric's value with its unit: shares in percent, long times in seconds.
pub fn with_unit(metric: &Metric, value: f64) -> String {
    match metric.unit {
        "share" => format!("{:.1} %", 100.0 * value),
        "ms" if value.abs() >= 1000.0 => format!("{} s", number(value / 1000.0)),
        "" => number(value),
        unit => format!("{} {unit}", number(value)),
    }
}

/// A metric's mean with half its interval: `10,413 ± 90 tokens/s`.
pub fn estimate(metric: &Metric, estimate: &Estimate) -> String {
    let half = match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => (high - low) / 2.0,
        _ => return with_unit(metric, estimate.mean),
    };
    match metric.unit {
        "share" => format!("{:.1} ± {:.1} %", 100.0 * estimate.mean, 100.0 * half),
        "ms" if estimate.mean.abs() >= 1000.0 => {
            format!("{} ± {} s", number(estimate.mean / 1000.0), number(half / 1000.0))
        }
        "" => format!("{} ± {}", number(estimate.mean), number(half)),
        unit => format!("{} ± {} {unit}", number(estimate.mean), number(half)),
    }
}

/// A change with its sign: `−12.2 points`, `+5.8 %`.
pub fn change(metric: &Metric, change: f64) -> String {
    let sign = if change < 0.0 { "−" } else { "+" };
    let unit = if metric.is_share() { "points" } else { "%" };
    format!("{sign}{:.1} {unit}", change.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_core::metric;

    #[test]
    fn numbers_read_well() {
        let cases = [
            (0.0, "0"),
            (0.1234, "0.123"),
            (5.678, "5.68"),
            (12.34, "12.3"),
            (886.4, "886"),
            (10413.0, "10,413"),
            (1_234_567.8, "1,234,568"),
            (-1234.0, "−1,234"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn units_follow_the_metric() {
        let metric = |id| metric::find(id).expect("a metric");
        assert_eq!(with_unit(metric("queue_share"), 0.887), "88.7 %");
        assert_eq!(with_unit(metric("e2e_p95_ms"), 4321.0), "4.32 s");
        assert_eq!(with_unit(metric("e2e_p95_ms"), 432.1), "432 ms");
        let three = Estimate { mean: 886.0, low: Some(880.0), high: Some(892.0), starts: vec![] };
        assert_eq!(estimate(metric("output_tokens_per_s"), &three), "886 ± 6.00 tokens/s");
        assert_eq!(change(metric("queue_share"), -12.2), "−12.2 points");
        assert_eq!(change(metric("output_tokens_per_s"), 5.8), "+5.8 %");
    }
}
