//! A TOML document read with the place of everything, so that every mistake can be shown.
//!
//! A getter that finds something wrong reports it and yields `None`; reading goes on, so that
//! one run shows all mistakes. What nobody asked for is an unknown key.

use std::{
    cell::RefCell,
    ops::{Range, RangeInclusive},
};

use bench_core::decimal::Decimal;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::diagnostic::{Diagnostic, suggest};

/// Bytes of the source.
pub(super) type Span = Range<usize>;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// Where mistakes are gathered.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Diagnostic>>);

impl Problems {
    pub(super) fn report(&self, problem: Diagnostic) {
        self.0.borrow_mut().push(problem);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// All of them, in the order of the file.
    pub(super) fn into_sorted(self) -> Vec<Diagnostic> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|problem| problem.span.start);
        problems
    }
}

#[cfg(test)]
thread_local! {
    /// Every key that was asked for, by the title of its table: what a schema must have.
    pub(super) static ASKED: RefCell<std::collections::BTreeSet<(String, &'static str)>> =
        RefCell::default();
}

/// A table whose keys are asked for one by one.
pub(super) struct Table<'a> {
    problems: &'a Problems,
    /// As messages name it, such as `[engine]`.
    pub(super) title: String,
    pub(super) span: Span,
    items: Vec<Item<'a>>,
    known: Vec<&'static str>,
}

/// A key of a table, or an element of an array, with its value.
#[derive(Clone)]
pub(super) struct Item<'a> {
    problems: &'a Problems,
    pub(super) key: At<&'a str>,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Table<'a> {
    /// The document itself.
    pub(super) fn document(problems: &'a Problems, table: &'a DeTable<'a>) -> Self {
        Self::new(problems, "the profile".to_owned(), 0..0, table)
    }

    fn new(problems: &'a Problems, title: String, span: Span, table: &'a DeTable<'a>) -> Self {
        let mut items: Vec<_> = table
            .iter()
            .map(|(key, value)| Item {
                problems,
                key: At { value: key.get_ref().as_ref(), span: key.span() },
                value,
            })
            .collect();
        items.sort_by_key(|item| item.key.span.start);
        Self { problems, title, span, items, known: Vec::new() }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| asked.insert((self.title.clone(), key)));
        let index = self.items.iter().position(|item| item.key.value == key)?;
        Some(self.items.remove(index))
    }

    /// What a table of that name holds: `None` where there is none, `Some(None)` where it is wrong.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Table<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.get(key).map(|item| item.table(format!("[{key}]")).and_then(read))
    }

    /// The value of a key that must be there.
    pub(super) fn require(&mut self, key: &'static str, what: &str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            self.problems.report(Diagnostic::new(
                format!("{} lacks `{key}`", self.title),
                self.span.clone(),
                format!("add {what}"),
            ));
        }
        item
    }

    /// Whether everything was asked for.
    pub(super) fn is_exhausted(&self) -> bool {
        self.items.is_empty()
    }

    /// Everything that was not asked for, in the order of the file.
    pub(super) fn rest(&mut self) -> Vec<Item<'a>> {
        std::mem::take(&mut self.items)
    }

    /// Reports what was not asked for. `elsewhere` knows keys that would be right under other
    /// circumstances, and says which.
    pub(super) fn finish(mut self, elsewhere: impl Fn(&str) -> Option<String>) {
        for item in self.rest() {
            let key = item.key.value;
            let label = elsewhere(key).unwrap_or_else(|| suggest(key, self.known.iter().copied()));
            self.problems.report(Diagnostic::new(
                format!("unknown key `{key}` in {}", self.title),
                item.key.span,
                label,
            ));
        }
    }
}

impl<'a> Item<'a> {
    pub(super) fn span(&self) -> Span {
        self.value.span()
    }

    pub(super) fn report(&self, message: impl Into<String>, label: impl Into<String>) {
        self.problems.report(Diagnostic::new(message, self.span(), label));
    }

    /// Reports a mistake that has more to it than a label.
    pub(super) fn tell(&self, problem: Diagnostic) {
        self.problems.report(problem);
    }

    /// Reports what is wrong at another place because of this one.
    pub(super) fn report_at(
        &self,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        let here = format!("`{}`", self.key.value);
        self.problems.report(Diagnostic::new(message, span, label).related(self.span(), here));
    }

    fn at<T>(&self, value: T) -> At<T> {
        At { value, span: self.span() }
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.report(
            format!("`{}` is {found}, not {expected}", self.key.value),
            format!("expected {expected}"),
        );
        None
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.raw(), DeValue::Array(_))
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.raw(), DeValue::Table(_))
    }

    /// The value as TOML has it.
    pub(super) fn raw(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// Text that is not empty and has no control characters.
    pub(super) fn text(&self) -> Option<At<&'a str>> {
        let DeValue::String(text) = self.raw() else {
            return self.wrong_type("text");
        };
        if text.trim().is_empty() {
            self.report(format!("`{}` is empty", self.key.value), "give it a value");
            return None;
        }
        if text.chars().any(char::is_control) {
            self.report(format!("`{}` holds a control character", self.key.value), "take it out");
            return None;
        }
        Some(self.at(text.as_ref()))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<At<T>> {
        let text = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == text.value);
        if found.is_none() {
            self.report(
                format!("unknown {} `{}`", self.key.value, text.value),
                suggest(text.value, choices.iter().map(|(name, _)| *name)),
            );
        }
        Some(self.at(found?.1))
    }

    pub(super) fn boolean(&self) -> Option<At<bool>> {
        match self.raw() {
            DeValue::Boolean(b) => Some(self.at(*b)),
            _ => self.wrong_type("true or false"),
        }
    }

    /// An integer of a range.
    pub(super) fn integer(&self, range: RangeInclusive<i64>) -> Option<At<i64>> {
        let DeValue::Integer(digits) = self.raw() else {
            return self.wrong_type("an integer");
        };
        let n = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        match n.filter(|n| range.contains(n)) {
            Some(n) => Some(self.at(n)),
            None => {
                let expected = match (*range.start(), *range.end()) {
                    (i64::MIN, i64::MAX) => "expected a 64-bit integer".to_owned(),
                    (min, max) => format!("expected an integer from {min} to {max}"),
                };
                self.report(format!("`{}` is out of range", self.key.value), expected);
                None
            }
        }
    }

    /// The same, where the range's ends are `u32`.
    pub(super) fn integer_u32(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let n = self.integer(i64::from(*range.start())..=i64::from(*range.end()))?;
        u32::try_from(n.value).ok()
    }

    /// A decimal number as it is written, which no float ever rounds.
    pub(super) fn decimal(&self) -> Option<At<Decimal>> {
        match decimal(self.raw()) {
            Some(Ok(decimal)) => Some(self.at(decimal)),
            Some(Err(expected)) => {
                self.report(
                    format!("`{}` is no number that can be kept exactly", self.key.value),
                    expected,
                );
                None
            }
            None => self.wrong_type("a number"),
        }
    }

    /// A decimal number above zero and up to a limit.
    pub(super) fn positive_decimal(&self, max: i64) -> Option<Decimal> {
        let decimal = self.decimal()?.value;
        if decimal > Decimal::default() && decimal.millionths() <= max.saturating_mul(1_000_000) {
            return Some(decimal);
        }
        self.report(
            format!("`{}` is out of range", self.key.value),
            format!("expected a number above 0 and up to {max}"),
        );
        None
    }

    /// A table; `title` is its name in messages.
    pub(super) fn table(&self, title: impl Into<String>) -> Option<Table<'a>> {
        match self.raw() {
            DeValue::Table(table) => {
                Some(Table::new(self.problems, title.into(), self.span(), table))
            }
            _ => self.wrong_type("a table"),
        }
    }

    /// The elements of a list that has 1 to `max`.
    pub(super) fn list(&self, max: usize) -> Option<Vec<Item<'a>>> {
        let DeValue::Array(array) = self.raw() else {
            return self.wrong_type("a list");
        };
        if array.is_empty() {
            self.report(format!("`{}` is empty", self.key.value), "add a value");
            return None;
        }
        if array.len() > max {
            self.report(
                format!("`{}` has {} elements", self.key.value, array.len()),
                format!("expected at most {max}"),
            );
            return None;
        }
        let item = |value| Item { problems: self.problems, key: self.key.clone(), value };
        Some(array.iter().map(item).collect())
    }
}

/// What a key says that may be absent; `None` where it is there with a mistake.
pub(super) fn absent_or_right<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    read.map_or(Some(None), |value| value.map(Some))
}

/// The number as it is written; `None` where the value is none.
pub(super) fn decimal(value: &DeValue<'_>) -> Option<Result<Decimal, &'static str>> {
    Some(match value {
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .ok()
            .and_then(Decimal::from_int)
            .ok_or("the number is too large"),
        DeValue::Float(digits) => digits.as_str().trim_start_matches('+').parse(),
        _ => return None,
    })
}
