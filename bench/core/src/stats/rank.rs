//! Comparison by rank, of figures that some starts did not reach because requests failed: these have a
//! place behind all others and no number.

use super::spread::Start;

/// More starts than these on both sides together have too many arrangements to try all.
const EXACT_MAX: usize = 20;

/// Whether a start has a figure that was not reached.
pub(super) fn has_unreached(starts: &[Start]) -> bool {
    starts.iter().any(|start| start.repeats.iter().any(|value| !value.is_finite()))
}

/// The probability that equals are ranked as far apart as this, either way (Wilcoxon, 1945; Mann and
/// Whitney, 1947), over all arrangements, ties included; and whether the figures of the second side
/// are the higher ones. `None` where a side has a single start.
pub(super) fn test(before: &[Start], after: &[Start]) -> Option<(f64, std::cmp::Ordering)> {
    let value = |start: &Start| start.repeats.iter().sum::<f64>() / start.repeats.len() as f64;
    let (before, after): (Vec<f64>, Vec<f64>) =
        (before.iter().map(value).collect(), after.iter().map(value).collect());
    if before.len() < 2 || after.len() < 2 {
        return None;
    }
    let all: Vec<f64> = before.iter().chain(&after).copied().collect();
    // Twice the mean rank, so that ties stay whole numbers.
    let rank = |value: f64| -> i64 {
        let below = all.iter().filter(|other| **other < value).count();
        let equal = all.iter().filter(|other| **other == value).count();
        (2 * below + equal + 1) as i64
    };
    let ranks: Vec<i64> = all.iter().map(|value| rank(*value)).collect();
    let expected = after.len() as i64 * (all.len() as i64 + 1);
    let found: i64 = ranks[before.len()..].iter().sum();
    let way = found.cmp(&expected);
    let distance = (found - expected).abs();
    if all.len() > EXACT_MAX {
        let (m, n) = (before.len() as f64, after.len() as f64);
        let deviation = libm::sqrt(m * n * (m + n + 1.0) / 12.0);
        return Some((libm::erfc(distance as f64 / 2.0 / deviation / libm::sqrt(2.0)), way));
    }
    let (mut arrangements, mut as_far) = (0_u64, 0_u64);
    for chosen in 0_u32..1 << all.len() {
        if chosen.count_ones() as usize == after.len() {
            let sum: i64 = (0..all.len()).filter(|i| chosen >> i & 1 == 1).map(|i| ranks[i]).sum();
            arrangements += 1;
            as_far += u64::from((sum - expected).abs() >= distance);
        }
    }
    Some((as_far as f64 / arrangements as f64, way))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    fn starts(values: &[f64]) -> Vec<Start> {
        values.iter().map(|value| Start::single(*value)).collect()
    }

    #[test]
    fn p_is_that_of_the_tables() {
        // R: wilcox.test(1:4, 5:8)$p.value, and of 1:3 and 4:6.
        let found = test(&starts(&[1.0, 2.0, 3.0, 4.0]), &starts(&[5.0, 6.0, 7.0, 8.0]));
        let (p, way) = found.expect("two starts a side");
        assert!((p - 2.0 / 70.0).abs() < 1e-12 && way == Ordering::Greater);
        let (p, _) = test(&starts(&[1.0, 2.0, 3.0]), &starts(&[4.0, 5.0, 6.0])).expect("a test");
        assert!((p - 0.1).abs() < 1e-12);
        assert_eq!(test(&starts(&[1.0]), &starts(&[4.0, 5.0])), None);
    }

    #[test]
    fn what_was_not_reached_is_behind_everything() {
        const NO: f64 = f64::INFINITY;
        let (p, way) =
            test(&starts(&[NO; 5]), &starts(&[1.0, 2.0, 3.0, 4.0, 5.0])).expect("a test");
        assert!(p < 0.01 && way == Ordering::Less, "{p}");
        assert_eq!(test(&starts(&[NO; 3]), &starts(&[NO; 3])), Some((1.0, Ordering::Equal)));
    }
}
