//! Results of `vllm bench serve --save-result`, read as a baseline.

use std::{collections::BTreeMap, fmt};

use bench_core::{
    canonical::Digest,
    schema::{EngineLabel, Estimate, FORMAT, Header, Point, Role, SavedResult},
    stats,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Why a text is no such result: what is wrong in it.
#[derive(Debug, PartialEq, Eq)]
pub struct ImportError(String);

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fields of the result, and with `--save-detailed` one value a request in each array, in seconds.
/// What else is in it is passed over.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Saved {
    model_id: String,
    completed: u64,
    #[serde(default)]
    failed: u64,
    request_throughput: f64,
    output_throughput: f64,
    ttfts: Option<Vec<f64>>,
    itls: Option<Vec<Vec<f64>>>,
    output_lens: Option<Vec<u64>>,
    errors: Option<Vec<Option<String>>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The names of a latency there and here.
const LATENCIES: [(&str, &str); 4] =
    [("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2el", "e2e")];
const STATISTICS: [(&str, &str); 4] =
    [("mean", "mean"), ("median", "p50"), ("p95", "p95"), ("p99", "p99")];

/// A result file of one point: `label` under `load`.
///
/// Percentiles that the result does not state are taken from the details, where it has them, as
/// vLLM computes them.
///
/// # Errors
/// When the text is no result of `vllm bench serve --save-result`, or nothing completed.
pub fn vllm_result(text: &[u8], label: &str, load: &str) -> Result<SavedResult, ImportError> {
    let lacks = |e: serde_json::Error| {
        ImportError(format!("it is no result of `vllm bench serve --save-result`: {e}"))
    };
    let mut results = serde_json::Deserializer::from_slice(text).into_iter::<Saved>();
    let saved = results.next().ok_or_else(|| ImportError("it is empty".to_owned()))?;
    let saved = saved.map_err(lacks)?;
    if results.next().is_some() {
        let message = "it holds several results (`--append-result`): keep one of them";
        return Err(ImportError(message.to_owned()));
    }
    if saved.completed == 0 {
        return Err(ImportError("no request of it completed".to_owned()));
    }
    let engine = EngineLabel {
        title: format!("{} (vllm bench serve)", saved.model_id),
        simulated: false,
        identity: Digest::of(text),
    };
    let point = Point {
        label: label.to_owned(),
        role: Role::Reference,
        args: BTreeMap::new(),
        load: load.to_owned(),
        load_digest: None,
        part: None,
        trials: Vec::new(),
        failure: None,
        saturated: false,
        metrics: saved.metrics()?,
        anatomy: None,
        classes: Vec::new(),
    };
    let (profile, stage) = (label.to_owned(), "baseline import".to_owned());
    let header = Header { format: FORMAT, profile, stage, engine };
    Ok(SavedResult { header, points: vec![point], findings: Vec::new(), stopping: None })
}

impl Saved {
    fn metrics(&self) -> Result<BTreeMap<String, Estimate>, ImportError> {
        let requests = (self.completed + self.failed) as f64;
        let mut values = BTreeMap::from([
            ("requests_per_s".to_owned(), self.request_throughput),
            ("output_tokens_per_s".to_owned(), self.output_throughput),
            ("failed_share".to_owned(), self.failed as f64 / requests),
        ]);
        let details = self.details()?;
        for (theirs, ours) in LATENCIES {
            for (statistic, suffix) in STATISTICS {
                let stated = self.others.get(&format!("{statistic}_{theirs}_ms"));
                let value = match stated.and_then(Value::as_f64) {
                    Some(ms) => Some(ms),
                    None => details.get(theirs).and_then(|ms| of_all(ms, suffix)),
                };
                values.extend(value.map(|ms| (format!("{ours}_{suffix}_ms"), ms)));
            }
        }
        let estimate = |(metric, value)| Some((metric, stats::estimate(vec![value])?));
        Ok(values.into_iter().filter_map(estimate).collect())
    }

    /// Latencies of the completed requests by their names there, sorted, in milliseconds.
    fn details(&self) -> Result<BTreeMap<&'static str, Vec<f64>>, ImportError> {
        let (Some(ttfts), Some(itls), Some(output_lens)) =
            (&self.ttfts, &self.itls, &self.output_lens)
        else {
            return Ok(BTreeMap::new());
        };
        let failed = self.errors.as_deref().unwrap_or_default();
        let lens = [ttfts.len(), itls.len(), output_lens.len()];
        let requests = if failed.is_empty() { lens[0] } else { failed.len() };
        if lens.iter().any(|len| *len != requests) {
            let message = format!(
                "its arrays hold one value a request, but are of different lengths: ttfts {}, \
                 itls {}, output_lens {}, errors {}",
                lens[0],
                lens[1],
                lens[2],
                failed.len()
            );
            return Err(ImportError(message));
        }
        let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (n, ((ttft_s, gaps_s), tokens)) in ttfts.iter().zip(itls).zip(output_lens).enumerate() {
            if failed.get(n).is_some_and(|error| error.as_deref().is_some_and(|e| !e.is_empty())) {
                continue;
            }
            let decode_s: f64 = gaps_s.iter().sum();
            let mut push = |name, s: f64| all.entry(name).or_default().push(1e3 * s);
            push("ttft", *ttft_s);
            push("e2el", ttft_s + decode_s);
            gaps_s.iter().for_each(|gap_s| push("itl", *gap_s));
            if *tokens > 1 {
                push("tpot", decode_s / (tokens - 1) as f64);
            }
        }
        all.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
        Ok(all)
    }
}

/// A statistic of sorted values; quantiles as numpy has them, linear between neighbours.
fn of_all(sorted: &[f64], statistic: &str) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = last as f64
        * match statistic {
            "p50" => 0.50,
            "p95" => 0.95,
            "p99" => 0.99,
            _ => return Some(sorted.iter().sum::<f64>() / sorted.len() as f64),
        };
    let (below, above) = (sorted[at as usize], sorted[(at as usize + 1).min(last)]);
    Some(below + (above - below) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// What `bench export` writes, as its own snapshot has it.
    const EXPORTED: &str = include_str!(
        "../../bench/src/snapshots/bench__export__tests__a_result_has_the_fields_that_notebooks_read.snap"
    );

    fn exported() -> Value {
        let (_, json) = EXPORTED.rsplit_once("---\n").expect("a snapshot has a head");
        serde_json::from_str(json).expect("JSON")
    }

    fn means(result: &SavedResult) -> BTreeMap<String, f64> {
        result.points[0].metrics.iter().map(|(name, e)| (name.clone(), e.mean)).collect()
    }

    fn import(value: &Value) -> Result<SavedResult, String> {
        let text = serde_json::to_vec(value).expect("JSON");
        vllm_result(&text, "before", "production").map_err(|error| error.to_string())
    }

    #[test]
    fn what_we_export_comes_back() {
        let metrics = means(&import(&exported()).expect("imports"));
        for (name, value) in [
            ("requests_per_s", 0.6369426751592356),
            ("output_tokens_per_s", 2.5477707006369426),
            ("ttft_mean_ms", 100.0),
            ("ttft_p99_ms", 100.0),
            ("tpot_mean_ms", 6.666666666666663),
            ("itl_p50_ms", 20.0),
            ("itl_p95_ms", 20.0),
            ("e2e_p50_ms", 120.0),
            ("failed_share", 1.0 / 3.0),
        ] {
            assert!((metrics[name] - value).abs() < 1e-9, "{name}: {}", metrics[name]);
        }
    }

    #[test]
    fn figures_that_are_not_stated_come_from_the_details() {
        let mut detailed = exported();
        let fields = detailed.as_object_mut().expect("an object");
        fields.retain(|name, _| !name.ends_with("_ms"));
        fields["errors"] = json!(["", "", ""]);
        fields["ttfts"] = json!([0.1, 0.2, 0.4]);
        fields["itls"] = json!([[0.01, 0.03], [0.02], []]);
        fields["output_lens"] = json!([3, 2, 1]);
        let metrics = means(&import(&detailed).expect("imports"));
        // numpy.percentile([100, 200, 400], 95) and so on.
        for (name, value) in [
            ("ttft_p50_ms", 200.0),
            ("ttft_p95_ms", 380.0),
            ("itl_mean_ms", 20.0),
            ("tpot_mean_ms", 20.0),
            ("e2e_p50_ms", 220.0),
        ] {
            assert!((metrics[name] - value).abs() < 1e-9, "{name}: {}", metrics[name]);
        }
    }

    #[test]
    fn what_is_no_result_is_told_why() {
        let with = |name: &str, value: Value| {
            let mut result = exported();
            result[name] = value;
            import(&result).expect_err(name)
        };
        let twice = format!("{0}\n{0}", exported());
        let text = |text: &str| {
            vllm_result(text.as_bytes(), "before", "production").expect_err(text).to_string()
        };
        insta::assert_snapshot!(
            [
                text(""),
                text("[1]"),
                text("{\"model_id\": \"m\"}"),
                text(&twice),
                with("completed", json!(0)),
                with("ttfts", json!([0.1])),
                with("request_throughput", json!("fast")),
            ]
            .join("\n")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn any_text_is_survived(text in "[\\[\\]{}:,0-9.eE\" a-z_-]{0,120}", at in any::<prop::sample::Index>(), byte: u8) {
            let _ = vllm_result(text.as_bytes(), "a", "b");
            let mut damaged = exported().to_string().into_bytes();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let _ = vllm_result(&damaged, "a", "b");
        }
    }
}
