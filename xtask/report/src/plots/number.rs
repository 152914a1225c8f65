//! Numbers as people read them; no locale.

use crate::format;

/// The number with that many decimals and a comma between thousands.
pub fn grouped(value: f64, decimals: usize) -> String {
    if value.abs() >= 1e12 {
        return format!("{value:.1e}");
    }
    format::number(value, decimals)
}

/// The number to three significant digits, whole from 100 on.
pub fn figure(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.001 {
        return format!("{value:.1e}");
    }
    grouped(value, format::decimals(value))
}

/// The number for a label in a plot: at most two decimals.
pub fn short(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size == 0.0 || size >= 99.95 => grouped(value, 0),
        _ if size >= 9.995 => grouped(value, 1),
        _ if size >= 0.095 => grouped(value, 2),
        _ => figure(value),
    }
}

/// The number without zeros that say nothing.
pub fn plain(value: f64) -> String {
    let text = figure(value);
    match text.split_once('.') {
        Some((_, fraction)) if !fraction.contains('e') => {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_071_264.0, 0), "1,071,264");
        assert_eq!(grouped(-1234.5, 1), "−1,234.5");
        assert_eq!(grouped(-0.04, 1), "0.0");
        assert_eq!(grouped(100.0, 0), "100");
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [10_413.2, 99.96, 17.04, 9.996, 0.5, 0.0].map(figure);
        assert_eq!(shown, ["10,413", "100", "17.0", "10.0", "0.500", "0"]);
    }

    #[test]
    fn labels_are_short() {
        assert_eq!(
            [10_413.2, 17.04, 0.316, 0.0316, 0.0].map(short),
            ["10,413", "17.0", "0.32", "0.032", "0"]
        );
        assert_eq!([3_000.0, 50.0, 0.5, 1e-4].map(plain), ["3,000", "50", "0.5", "1.0e-4"]);
    }
}
