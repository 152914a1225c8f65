//! The Prometheus text format, as far as vLLM's `/metrics` needs it.

/// One scrape, and sums over it. Lines that are not of the format are passed over: a metric that
/// cannot be read is a metric that the server does not have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    /// Reads a scrape, and keeps only the samples whose name is wanted.
    pub(crate) fn parse(text: &str, wanted: impl Fn(&str) -> bool) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| sample(line, &wanted))
            .collect();
        Self { samples }
    }

    /// Sum of a metric over all its labels; `None` when the server has no such metric.
    pub(crate) fn sum(&self, name: &str) -> Option<f64> {
        let mut values = self.samples.iter().filter(|s| s.name == name).map(|s| s.value).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// The largest value of a metric.
    pub(crate) fn max(&self, name: &str) -> Option<f64> {
        self.samples.iter().filter(|s| s.name == name).map(|s| s.value).reduce(f64::max)
    }

    /// Values of one label of a metric, in the order of its samples.
    pub(crate) fn labels<'a>(
        &'a self,
        name: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
            .flat_map(|sample| &sample.labels)
            .filter(move |(key, _)| key == label)
            .map(|(_, value)| value.as_str())
    }
}

fn sample(line: &str, wanted: &impl Fn(&str) -> bool) -> Option<Sample> {
    let name_len = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(name_len);
    if !wanted(name) {
        return None;
    }
    let mut labels = Vec::new();
    let rest = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest, &mut labels)?,
        None => rest,
    };
    // A time stamp may follow the value.
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Reads `key="value",…}` and gives what follows.
fn read_labels<'a>(mut rest: &'a str, labels: &mut Vec<(String, String)>) -> Option<&'a str> {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        rest = loop {
            match chars.next()? {
                (at, '"') => break &after[at + 1..],
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((key.trim().to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "# HELP vllm:num_requests_running Number of requests.\n\
        # TYPE vllm:num_requests_running gauge\n\
        vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\n\
        vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 4.0 1764000000\n\
        vllm:cache_config_info{a=\"x\\\"y\\\\z\\n\", block_size=\"16\",} 1\n\
        process_cpu_seconds_total 1.5e2\n\
        vllm:broken{a=\"b 1\n\
        vllm:kv_cache_usage_perc{engine=\"0\"} NaN\n";

    #[test]
    fn values_are_summed_over_engines() {
        let scrape = Scrape::parse(TEXT, |_| true);
        assert_eq!(scrape.sum("vllm:num_requests_running"), Some(7.0));
        assert_eq!(scrape.max("vllm:num_requests_running"), Some(4.0));
        assert_eq!(scrape.sum("process_cpu_seconds_total"), Some(150.0));
        assert_eq!(scrape.sum("vllm:num_requests_waiting"), None);
        assert_eq!(scrape.sum("vllm:broken"), None);
        assert_eq!(scrape.sum("vllm:kv_cache_usage_perc"), None, "no number");
    }

    #[test]
    fn labels_are_unescaped() {
        let scrape = Scrape::parse(TEXT, |_| true);
        let labels = |label| scrape.labels("vllm:cache_config_info", label).collect::<Vec<_>>();
        assert_eq!(labels("a"), ["x\"y\\z\n"]);
        assert_eq!(labels("block_size"), ["16"]);
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let scrape = Scrape::parse(TEXT, |name| name == "process_cpu_seconds_total");
        assert_eq!(scrape.samples.len(), 1);
    }

    proptest! {
        #[test]
        fn a_damaged_scrape_is_survived(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..9_usize, "[\\PC{}=\"\\\\,\\n0-9.e#]{0,6}"), 1..4),
        ) {
            let mut text: Vec<char> = TEXT.chars().collect();
            for (at, len, piece) in edits {
                let start = at.index(text.len() + 1);
                let end = (start + len).min(text.len());
                text.splice(start..end, piece.chars());
            }
            let scrape = Scrape::parse(&String::from_iter(text), |_| true);
            prop_assert!(scrape.sum("vllm:num_requests_running").is_none_or(|sum| !sum.is_nan()));
        }

        #[test]
        fn any_text_is_survived(text in "[a-z{}=\"\\\\, 0-9\\n#é]{0,80}") {
            Scrape::parse(&text, |_| true);
        }
    }
}
