//! Exact decimal numbers, so that `0.92` is the same key on every machine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::Error as _};

/// A decimal number with at most six digits after the point, kept as millionths.
///
/// Its text has no exponent and no trailing zeros, so equal numbers have equal texts. In JSON
/// it is a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal {
    millionths: i64,
}

impl Decimal {
    /// The whole number `n`, or `None` above 9.2e12.
    pub fn from_int(n: i64) -> Option<Self> {
        Some(Self { millionths: n.checked_mul(1_000_000)? })
    }

    /// The number in millionths.
    pub const fn from_millionths(millionths: i64) -> Self {
        Self { millionths }
    }

    /// The number in millionths.
    pub const fn millionths(self) -> i64 {
        self.millionths
    }

    /// The nearest float; for arithmetic, never for a key.
    pub fn to_f64(self) -> f64 {
        self.millionths as f64 / 1e6
    }
}

impl FromStr for Decimal {
    type Err = &'static str;

    /// Reads `-12`, `0.92`, `5.50`; no exponent, no sign `+`, at most six digits after the point.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err("expected a decimal number such as 0.92");
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 6 {
            return Err("expected at most six digits after the point");
        }
        let parse = |s: &str| s.parse::<i64>().map_err(|_| "the number is too large");
        let whole = parse(whole)?;
        let fraction = parse(&format!("{fraction:0<6}"))?;
        let millionths = whole
            .checked_mul(1_000_000)
            .and_then(|m| m.checked_add(fraction))
            .ok_or("the number is too large")?;
        Ok(Self { millionths: if negative { -millionths } else { millionths } })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.millionths < 0 { "-" } else { "" };
        let magnitude = self.millionths.unsigned_abs();
        write!(f, "{sign}{}", magnitude / 1_000_000)?;
        let fraction = format!("{:06}", magnitude % 1_000_000);
        match fraction.trim_end_matches('0') {
            "" => Ok(()),
            digits => write!(f, ".{digits}"),
        }
    }
}

impl Serialize for Decimal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_numbers_have_equal_texts() {
        for (text, canonical) in [
            ("0.90", "0.9"),
            ("5", "5"),
            ("5.0", "5"),
            ("-0.000001", "-0.000001"),
            ("007.50", "7.5"),
        ] {
            assert_eq!(text.parse::<Decimal>().map(|d| d.to_string()), Ok(canonical.to_owned()));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "-", ".5", "5.", "1e3", "+1", "0.1234567", "99999999999999", "nan", "1.2.3"]
        {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(millionths in -1_000_000_000_000_i64..1_000_000_000_000) {
            let decimal = Decimal::from_millionths(millionths);
            prop_assert_eq!(decimal.to_string().parse(), Ok(decimal));
        }
    }
}
