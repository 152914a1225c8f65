//! Figures as people read them. No locale: thousands are parted by commas everywhere.

use bench_core::{
    metric::{self, Direction, Metric},
    schema::{Args, Estimate, Point, Role},
};
use profile::flags;

use profile::role;

/// Name of the engine's own settings.
pub const DEFAULT: &str = "vLLM default";

/// Shown where there is no figure.
pub const NOTHING: &str = "–";

/// A number with so many digits after the point, thousands parted, and a true minus sign.
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    if value < 0.0 && text.bytes().any(|b| matches!(b, b'1'..=b'9')) {
        out.push('−');
    }
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// Digits after the point that leave about three significant ones, by the number as it is rounded:
/// 99.96 is shown as 100.
pub fn decimals(value: f64) -> usize {
    match value.abs() {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    }
}

/// How a metric's value is shown: factor, unit and the digits after the point.
fn scale(metric: Option<&Metric>, value: f64) -> (f64, &'static str, usize) {
    match metric.map_or("", |m| m.unit) {
        "share" => (100.0, " %", 1),
        "%" => (1.0, " %", 1),
        "×" => (1.0, " ×", decimals(value)),
        "ms" if value.abs() >= 1_000.0 => (1e-3, " s", decimals(value * 1e-3)),
        "ms" => (1.0, " ms", decimals(value)),
        _ => (1.0, "", decimals(value)),
    }
}

/// A figure with half its interval, such as `53.2 ± 0.4 %`; without one from a single start.
pub fn estimate(metric: Option<&Metric>, estimate: &Estimate) -> String {
    if !estimate.mean.is_finite() {
        return unreached(estimate.mean).to_owned();
    }
    let (factor, unit, mut digits) = scale(metric, estimate.mean);
    let half = match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => (high - low) / 2.0 * factor,
        _ => return format!("{}{unit}", number(estimate.mean * factor, digits)),
    };
    // A setting that the server resolved alike in every start varies by nothing.
    if half == 0.0 && metric.is_some_and(|m| m.direction == Direction::Neither) {
        return format!("{}{unit}", number(estimate.mean * factor, digits));
    }
    if half > 0.0 && half < 0.5 * last_digit(digits) {
        digits += 1;
    }
    format!("{} ± {}{unit}", number(estimate.mean * factor, digits), number(half, digits))
}

/// In place of a figure that was not reached, since too many requests failed.
fn unreached(value: f64) -> &'static str {
    if value > 0.0 { "not reached" } else { "not sustained" }
}

/// What one in the last digit is worth.
fn last_digit(digits: usize) -> f64 {
    [1.0, 0.1, 0.01, 0.001][digits.min(3)]
}

/// A figure without an interval.
pub fn value(metric: Option<&Metric>, value: f64) -> String {
    if !value.is_finite() {
        return unreached(value).to_owned();
    }
    let (factor, unit, digits) = scale(metric, value);
    format!("{}{unit}", number(value * factor, digits))
}

/// The unit that a metric's figures leave to the title, with a space before it.
pub fn unit_of_title(metric: Option<&Metric>) -> String {
    match metric.map_or("", |m| m.unit) {
        "" | "ms" | "share" | "%" | "×" => String::new(),
        unit => format!(" {unit}"),
    }
}

/// A figure given by somebody else, or a limit: no more digits than it came with.
pub fn given(metric: Option<&Metric>, value: f64) -> String {
    let (factor, unit, digits) = scale(metric, value);
    let text = number(value * factor, digits + 1);
    let text = match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
        None => &text,
    };
    format!("{text}{unit}")
}

/// An interval whose middle is farther from the change than this share of its half is shown by its
/// ends: that of a ratio reaches farther up than down.
const LOPSIDED: f64 = 0.1;

/// A change in percent, or in points between shares: `+5.8 ± 1.1 %`.
pub fn change(metric: Option<&Metric>, change: &Estimate) -> String {
    change_to(metric, change, usize::from(change.mean.abs() < 100.0))
}

/// [`change`] with so many digits after the point.
pub fn change_to(metric: Option<&Metric>, change: &Estimate, digits: usize) -> String {
    let unit = if metric.is_some_and(Metric::is_share) { "points" } else { "%" };
    let mean = signed(change.mean, digits);
    match (change.low, change.high) {
        (Some(low), Some(high)) => {
            let half = (high - low) / 2.0;
            let is_even = (high + low - 2.0 * change.mean).abs() <= LOPSIDED * half;
            if is_even {
                format!("{mean} ± {} {unit}", number(half, digits))
            } else {
                // With ± a change that is proven would look as if it were not.
                format!("{mean} ({} to {}) {unit}", signed(low, digits), signed(high, digits))
            }
        }
        _ => format!("{mean} {unit}"),
    }
}

/// A number that always shows its sign, unless it rounds to zero.
pub fn signed(value: f64, decimals: usize) -> String {
    let text = number(value, decimals);
    let is_zero = !text.bytes().any(|b| matches!(b, b'1'..=b'9'));
    if is_zero || value < 0.0 { text } else { format!("+{text}") }
}

/// Milliseconds, in seconds from one second on.
pub fn ms(value: f64) -> String {
    if !value.is_finite() {
        return unreached(value).to_owned();
    }
    let (factor, unit) = if value.abs() >= 1_000.0 { (1e-3, "s") } else { (1.0, "ms") };
    format!("{} {unit}", number(value * factor, decimals(value * factor)))
}

/// A metric's title, with the unit that its figures do not carry themselves.
pub fn title(metric: Option<&Metric>, id: &str) -> String {
    let unit = unit_of_title(metric);
    let title = metric.map_or(id, |m| m.title);
    if unit.is_empty() { title.to_owned() } else { format!("{title},{unit}") }
}

/// A metric's title within a sentence: lower case unless it starts with an abbreviation.
pub fn name(id: &str) -> String {
    let title = metric::find(id).map_or(id, |m| m.title);
    if starts_with_word(title) { recase(title, char::to_lowercase) } else { title.to_owned() }
}

/// Somebody's words as a sentence of their own: a capital first, a full stop last.
pub fn sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    let text = if starts_with_word(&text) { recase(&text, char::to_uppercase) } else { text };
    if text.is_empty() || text.ends_with(['.', '!', '?']) { text } else { format!("{text}.") }
}

fn starts_with_word(text: &str) -> bool {
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    first.is_some_and(char::is_alphabetic) && second.is_some_and(|c| c.is_lowercase() || c == ' ')
}

fn recase<I: Iterator<Item = char>>(text: &str, case: fn(char) -> I) -> String {
    let mut chars = text.chars();
    chars.next().into_iter().flat_map(case).chain(chars).collect()
}

/// Arguments in a sentence: `` `max-num-seqs 512`, `VLLM_USE_X=1` ``.
pub fn args(args: &Args) -> String {
    if args.is_empty() {
        return "vLLM's defaults".to_owned();
    }
    let words = |(name, value): (&String, _)| format!("`{}`", flags::in_words(name, value));
    args.iter().map(words).collect::<Vec<_>>().join(", ")
}

/// A setting as lists of causes name it: a value of a sweep with its flags, others by their label.
pub fn setting(point: &Point) -> String {
    match point.role {
        Role::Sweep if !point.args.is_empty() => args(&point.args),
        // Where nothing was a candidate, the defaults stand in its place.
        Role::Tuned if point.args.is_empty() => role::DEFAULT.to_owned(),
        _ => point.label.clone(),
    }
}

/// Arguments as the short name of a setting: `max-num-seqs=256 enforce-eager=true`.
pub fn args_label(args: &Args) -> String {
    if args.is_empty() {
        return "default".to_owned();
    }
    flags::label(args)
}

/// A text as a cell of a CSV file, whatever is in it.
pub fn csv_cell(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A list in a sentence: `a`, `a and b`, `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// A table in Markdown. A header that starts with `>` is set to the right, and its figures are
/// not broken between number and unit.
pub fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let is_figure: Vec<_> = header.iter().map(|title| title.starts_with('>')).collect();
    let titles = header.iter().map(|title| title.trim_start_matches('>').trim().to_owned());
    let rule = is_figure.iter().map(|right| if *right { "---:" } else { "---" }.to_owned());
    let mut out = line(titles) + &line(rule);
    for row in rows {
        out += &line(row.iter().zip(&is_figure).map(|(cell, is_figure)| {
            let cell = cell.trim().replace('|', "\\|").replace('\n', " ");
            if *is_figure { cell.replace(' ', "\u{a0}") } else { cell }
        }));
    }
    out
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(mean: f64, half: f64) -> Estimate {
        Estimate { mean, low: Some(mean - half), high: Some(mean + half), ..Estimate::default() }
    }

    #[test]
    fn figures_carry_unit_and_interval() {
        for (id, found, expected) in [
            ("output_tokens_per_s", of(10_413.2, 90.4), "10,413 ± 90"),
            ("output_tokens_per_s", of(886.2, 0.04), "886.2 ± 0.0"),
            ("queue_share", of(0.5316, 0.004), "53.2 ± 0.4 %"),
            ("e2e_p95_ms", of(2_540.0, 31.0), "2.54 ± 0.03 s"),
            ("e2e_p95_ms", of(850.0, 0.0), "850 ± 0 ms"),
            ("tpot_p95_ms", of(17.04, 0.2), "17.0 ± 0.2 ms"),
            ("length_slowdown", of(15.82, 0.11), "15.8 ± 0.1 ×"),
        ] {
            assert_eq!(estimate(metric::find(id), &found), expected);
        }
    }

    #[test]
    fn a_figure_that_rounds_up_keeps_three_digits() {
        for (found, expected) in [(99.96, "100 ms"), (9.996, "10.0 ms"), (0.9996, "1.00 ms")] {
            assert_eq!(value(metric::find("ttft_p95_ms"), found), expected);
        }
    }

    #[test]
    fn commas_and_quotes_stay_in_their_cell_of_csv() {
        assert_eq!(csv_cell("max-num-seqs=256"), "\"max-num-seqs=256\"");
        assert_eq!(csv_cell("a,b \"c\""), "\"a,b \"\"c\"\"\"");
    }

    #[test]
    fn given_figures_gain_no_digits() {
        for (id, found, expected) in [
            ("queue_share", 0.85, "85 %"),
            ("queue_mean_ms", 10_470.0, "10.47 s"),
            ("requests_per_s", 4.6, "4.6"),
            ("e2e_p95_ms", 2_540.0, "2.54 s"),
            ("e2e_p95_ms", 2_000.0, "2 s"),
            ("output_tokens_per_s", 1_200.0, "1,200"),
        ] {
            assert_eq!(given(metric::find(id), found), expected);
        }
    }

    #[test]
    fn titles_fit_into_sentences() {
        assert_eq!(name("output_tokens_per_s"), "output throughput");
        assert_eq!(name("ttft_p95_ms"), "TTFT P95");
        assert_eq!(name("unheard_of"), "unheard_of");
        assert_eq!(sentence("no value keeps the limits"), "No value keeps the limits.");
        assert_eq!(sentence("256 gives more."), "256 gives more.");
        assert_eq!(sentence("`a` is best"), "`a` is best.");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn changes_are_signed() {
        let tokens = metric::find("output_tokens_per_s");
        assert_eq!(change(tokens, &of(5.83, 1.12)), "+5.8 ± 1.1 %");
        assert_eq!(change(tokens, &of(1_143.7, 12.0)), "+1,144 ± 12 %");
        assert_eq!(change(tokens, &of(-0.04, 1.0)), "0.0 ± 1.0 %");
        assert_eq!(change(metric::find("queue_share"), &of(-12.2, 0.8)), "−12.2 ± 0.8 points");
    }

    #[test]
    fn cells_do_not_break_tables() {
        let header = ["a".to_owned(), ">b".to_owned()];
        let table = table(&header, &[vec!["x|y\nz".to_owned(), "1 s".to_owned()]]);
        assert_eq!(table, "| a | b |\n| --- | ---: |\n| x\\|y z | 1\u{a0}s |\n");
    }

    proptest! {
        #[test]
        fn numbers_read_back(value in -1e9_f64..1e9, decimals in 0_usize..4) {
            let text = number(value, decimals).replace(',', "").replace('−', "-");
            let read: f64 = text.parse().expect("a number");
            prop_assert!((read - value).abs() <= 0.5001 * last_digit(decimals));
        }
    }
}
