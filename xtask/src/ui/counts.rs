//! Counts and times in words.

pub fn number_of(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

pub fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{:.0} s", seconds.ceil().max(1.0))
    } else {
        format!("{:.0} min", (seconds / 60.0).ceil())
    }
}
