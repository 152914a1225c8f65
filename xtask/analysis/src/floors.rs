//! What limits a server whatever its scheduler does: from the bytes that a step reads, the arithmetic
//! of a token and the step of one request alone to the best figure that a load allows.
//!
//! A floor is a least latency or a greatest rate. Latencies are those of each planned request served
//! alone; rates are bounded by memory, arithmetic and the load itself. Flags that change the number of
//! bytes or of steps (quantisation, speculation) change the measured step and so the floor.

use std::collections::BTreeMap;

use bench_core::{
    schema::{Arrival, Floor, FloorPart, LoadSpec, Point},
    workload::{Plan, Workload},
};

/// Bytes a bfloat16 takes.
const BYTES: f64 = 2.0;

/// What a step takes on an H100 beyond reading its bytes at full bandwidth, a layer: 6.1 ms measured
/// for one request of Qwen2.5-7B, less 4.22 ms for 14.1 GB at 3.35 TB/s, over 28 layers. With fp8
/// weights, of which nothing was used here, it predicts 4.16 ms where 4.07 ms were measured.
const STEP_LAYER_US: f64 = 67.0;

/// The speed of a card.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// Bytes a second from its memory.
    pub bytes_per_s: f64,
    /// Operations a second in bfloat16, without sparsity.
    pub flops_per_s: f64,
}

/// Data sheets of the cards that are known: part of the name, TB/s, TFLOP/s. The longer name of two
/// that fit comes first.
const CARDS: [(&str, f64, f64); 10] = [
    ("H100 NVL", 3.9, 835.0),
    ("H100 PCIe", 2.0, 756.0),
    ("H100", 3.35, 989.0),
    ("H200", 4.8, 989.0),
    ("B200", 8.0, 2_250.0),
    ("A100-SXM4-80GB", 2.039, 312.0),
    ("A100", 1.555, 312.0),
    ("L40S", 0.864, 362.0),
    ("L4", 0.3, 121.0),
    ("A10G", 0.6, 125.0),
];

impl Card {
    /// The card of that name, as its driver says it.
    pub fn named(name: &str) -> Option<Self> {
        let known = CARDS.iter().find(|(part, ..)| name.contains(part))?;
        Some(Self { bytes_per_s: known.1 * 1e12, flops_per_s: known.2 * 1e12 })
    }
}

/// What a model costs a card, in bfloat16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Weights that a step reads: all but the embedding of tokens.
    pub weights_bytes: f64,
    /// Keys and values of a token.
    pub kv_token_bytes: f64,
    /// Operations of a token, attention and logits aside.
    pub token_flops: f64,
    /// Layers.
    pub layers: f64,
}

/// The dimensions of a dense transformer, as its `config.json` has them.
#[derive(Clone, Copy, Debug)]
pub struct Dimensions {
    /// `hidden_size`.
    pub hidden: u32,
    /// `intermediate_size`.
    pub intermediate: u32,
    /// `num_hidden_layers`.
    pub layers: u32,
    /// Key-value heads times their size.
    pub kv: u32,
    /// `vocab_size`.
    pub vocab: u32,
}

impl Dimensions {
    /// What the model costs.
    pub fn costs(&self) -> Costs {
        let [hidden, intermediate, layers, kv, vocab] =
            [self.hidden, self.intermediate, self.layers, self.kv, self.vocab].map(f64::from);
        let attention = 2.0 * hidden * hidden + 2.0 * hidden * kv;
        let parameters = layers * (attention + 3.0 * hidden * intermediate);
        Costs {
            weights_bytes: BYTES * (parameters + hidden * vocab),
            kv_token_bytes: BYTES * 2.0 * layers * kv,
            token_flops: 2.0 * parameters,
            layers,
        }
    }
}

/// One request alone on a server, as measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alone {
    /// Time per output token.
    pub step_ms: f64,
    /// Time to the first token.
    pub ttft_ms: f64,
    /// Its prompt.
    pub input_tokens: f64,
    /// What of E2E the API server took.
    pub api_server_ms: f64,
}

impl Alone {
    /// From the points under a load that keeps one request in flight: the fastest step of any setting,
    /// and that setting's other times.
    pub fn of<'a>(load: &LoadSpec, points: impl Iterator<Item = &'a Point>) -> Option<Self> {
        if load.arrival != (Arrival::ClosedLoop { concurrency: 1 }) {
            return None;
        }
        let (sum, count) = requests(load)?
            .iter()
            .fold((0.0, 0.0), |(sum, count), request| (sum + request.input, count + 1.0));
        points
            .filter_map(|point| {
                Some(Self {
                    step_ms: point.mean("tpot_mean_ms")?,
                    ttft_ms: point.mean("ttft_p50_ms")?,
                    input_tokens: sum / count,
                    api_server_ms: point.anatomy.map_or(0.0, |anatomy| anatomy.front_end_ms),
                })
            })
            // Where too many requests failed, a time was not reached.
            .filter(|alone| alone.step_ms.is_finite() && alone.ttft_ms.is_finite())
            .min_by(|a, b| a.step_ms.total_cmp(&b.step_ms))
    }
}

/// A model on a card.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Server {
    /// The card's speed and the model's costs, where they are known.
    pub hardware: Option<(Card, Costs)>,
    /// One request alone, where it was measured.
    pub alone: Option<Alone>,
}

/// Lengths of a planned request.
#[derive(Clone, Copy, Debug)]
struct Request {
    class: u16,
    input: f64,
    output: f64,
}

/// The requests that a load plans; `None` where only its file or the server's answers tell.
fn requests(load: &LoadSpec) -> Option<Vec<Request>> {
    load.requests_expected()?;
    if load.data.is_some() || load.conversation.is_some() {
        return None;
    }
    let workload = Workload::from(load.clone());
    let request = |planned: bench_core::workload::PlannedRequest| Request {
        class: planned.class,
        input: f64::from(planned.input_tokens),
        output: f64::from(planned.output_tokens),
    };
    Some(Plan::new(&workload).map(request).collect())
}

/// Milliseconds by what they are spent on.
type Parts = BTreeMap<FloorPart, f64>;

fn total(parts: &Parts) -> f64 {
    parts.values().sum()
}

impl Server {
    /// The step of one request alone with so much context.
    fn step(&self, context: f64) -> Option<Parts> {
        let mut parts = Parts::new();
        if let Some((card, costs)) = self.hardware {
            let ms = |bytes: f64| bytes / card.bytes_per_s * 1e3;
            let (weights, kv) = (ms(costs.weights_bytes), ms(costs.kv_token_bytes * context));
            let step = match self.alone {
                Some(alone) => alone.step_ms,
                None => weights + kv + costs.layers * STEP_LAYER_US / 1e3,
            };
            // Of quantised weights less is read than the shape says.
            let kv = kv.min(step);
            let weights = weights.min(step - kv);
            parts.insert(FloorPart::Weights, weights);
            parts.insert(FloorPart::Kv, kv);
            parts.insert(FloorPart::Step, step - weights - kv);
        } else {
            parts.insert(FloorPart::Step, self.alone?.step_ms);
        }
        Some(parts)
    }

    /// The first token of one request alone.
    fn first_token(&self, input: f64) -> Option<Parts> {
        let compute = |(card, costs): (Card, Costs)| costs.token_flops / card.flops_per_s * 1e3;
        let Some(alone) = self.alone else {
            let mut parts = self.step(input)?;
            parts.insert(FloorPart::Compute, input * self.hardware.map_or(0.0, compute));
            return Some(parts);
        };
        let more_ms = (input - alone.input_tokens) * self.hardware.map_or(0.0, compute);
        let rest_ms = (alone.ttft_ms - alone.api_server_ms + more_ms).max(0.0);
        Some(Parts::from([
            (FloorPart::ApiServer, alone.api_server_ms),
            (FloorPart::Compute, rest_ms),
        ]))
    }

    /// One request alone, from its sending to its end.
    fn alone(&self, request: &Request) -> Option<Parts> {
        let mut parts = self.first_token(request.input)?;
        let steps = request.output - 1.0;
        for (part, ms) in self.step(request.input + request.output / 2.0)? {
            *parts.entry(part).or_default() += steps * ms;
        }
        Some(parts)
    }

    /// The best figure of a metric under a load, where the metric has one.
    pub fn floor(&self, metric: &str, load: &LoadSpec) -> Option<Floor> {
        let requests = requests(load)?;
        match metric {
            "output_tokens_per_s" | "requests_per_s" => self.rate(metric, load, &requests),
            "long_e2e_p95_ms" => {
                let last = load.classes.len() - 1;
                let long =
                    requests.into_iter().filter(|request| usize::from(request.class) == last);
                self.latency(&long.collect::<Vec<_>>(), Some(95), |request| self.alone(request))
            }
            _ => {
                let (family, statistic) = metric.strip_suffix("_ms")?.split_once('_')?;
                let percent = match statistic {
                    "mean" => None,
                    _ => Some(statistic.strip_prefix('p')?.parse().ok()?),
                };
                let of_request = |request: &Request| match family {
                    "e2e" => self.alone(request),
                    "ttft" => self.first_token(request.input),
                    "tpot" | "itl" => self.step(request.input + request.output / 2.0),
                    _ => None,
                };
                self.latency(&requests, percent, of_request)
            }
        }
    }

    /// The mean or a percentile (by nearest rank) of what requests take alone.
    fn latency(
        &self,
        requests: &[Request],
        percent: Option<usize>,
        of: impl Fn(&Request) -> Option<Parts>,
    ) -> Option<Floor> {
        let mut alone: Vec<Parts> = requests.iter().map(of).collect::<Option<_>>()?;
        alone.sort_by(|a, b| total(a).total_cmp(&total(b)));
        let n = alone.len();
        let parts = match percent {
            Some(percent) => alone.get((n * percent).div_ceil(100).max(1) - 1)?.clone(),
            None => {
                let mut sum = Parts::new();
                for (part, ms) in alone.iter().flatten() {
                    *sum.entry(*part).or_default() += ms / n as f64;
                }
                sum
            }
        };
        let value = total(&parts);
        self.of_parts(value, &parts)
    }

    fn of_parts(&self, value: f64, parts: &Parts) -> Option<Floor> {
        let all = total(parts);
        let (set_by, _) = parts.iter().max_by(|a, b| a.1.total_cmp(b.1))?;
        let shares = parts.iter().filter(|(_, ms)| **ms > 0.0);
        Some(Floor {
            value,
            set_by: *set_by,
            parts: shares.map(|(part, ms)| (*part, 100.0 * ms / all)).collect(),
            is_measured: self.alone.is_some(),
        })
    }

    /// The greatest rate: what comes within the least time that the load can take.
    fn rate(&self, metric: &str, load: &LoadSpec, requests: &[Request]) -> Option<Floor> {
        let outputs: f64 = requests.iter().map(|request| request.output).sum();
        let units = if metric == "requests_per_s" { requests.len() as f64 } else { outputs };
        let alone: Vec<Parts> =
            requests.iter().map(|request| self.alone(request)).collect::<Option<_>>()?;
        let offered_ms = match (&load.arrival, load.size) {
            (_, bench_core::schema::Size::DurationMs(ms)) => ms as f64,
            _ => 0.0,
        };
        // Steps that run one after another: those of the longest request, or of each client.
        let in_a_row = match load.arrival {
            Arrival::ClosedLoop { concurrency } => {
                let mut sum = Parts::new();
                for (part, ms) in alone.iter().flatten() {
                    *sum.entry(*part).or_default() += ms / f64::from(concurrency);
                }
                sum
            }
            _ => alone.iter().max_by(|a, b| total(a).total_cmp(&total(b)))?.clone(),
        };
        let mut memory = in_a_row;
        let mut compute = Parts::new();
        if let Some((card, costs)) = self.hardware {
            let context =
                |request: &Request| request.output * (request.input + request.output / 2.0);
            let read: f64 = requests.iter().map(context).sum();
            let kv_ms = read * costs.kv_token_bytes / card.bytes_per_s * 1e3;
            memory.insert(FloorPart::Kv, kv_ms);
            let tokens: f64 = requests.iter().map(|request| request.input + request.output).sum();
            compute.insert(FloorPart::Compute, tokens * costs.token_flops / card.flops_per_s * 1e3);
        }
        let bound = if total(&memory) >= total(&compute) { memory } else { compute };
        if total(&bound) < offered_ms {
            return Some(Floor {
                value: units / offered_ms * 1e3,
                set_by: FloorPart::Load,
                parts: Parts::new(),
                is_measured: self.alone.is_some(),
            });
        }
        self.of_parts(units / total(&bound) * 1e3, &bound)
    }
}

#[cfg(test)]
mod tests;
