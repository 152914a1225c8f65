//! `[[load]]`: load points.

use std::{fmt, path::Path};

use bench_core::{
    decimal::Decimal,
    schema::{Arrival, Class, Conversation, Goodput, LoadSpec, Prefix, Size, TokenRange},
};

use super::{
    arrival::{self, CONCURRENCY_MAX, DURATION_S_MAX},
    data::{self, Data, REQUESTS_MAX},
    diagnostic::{Diagnostic, suggest},
    read::{At, Item, Problems, Span, Table, absent_or_right},
    request,
    resolved::{NamedLoad, Part},
};

/// Limits on everything, far above what is sensible and far below what would hurt.
const LOADS_MAX: usize = 1000;
const CLASSES_MAX: usize = 1000;
/// Between two reads of `/metrics`.
const POLL_MS: std::ops::RangeInclusive<u32> = 100..=3_600_000;
const READER_THREADS: std::ops::RangeInclusive<u32> = 1..=64;
const TOKENS_MAX: u32 = 10_000_000;
const SHARE_MAX: i64 = 1_000_000;
const TURNS_MAX: u32 = 1000;
const REPEATS_MAX: u32 = 100;

/// A load with the places that later checks point at.
pub(super) struct PlacedLoad {
    pub(super) load: NamedLoad,
    /// Where its longest class is given, and that class's tokens in and out.
    pub(super) longest: At<u64>,
}

/// The loads of a profile.
#[derive(Default)]
pub(super) struct Loads {
    /// Those without a mistake, in the order of the file.
    pub(super) placed: Vec<PlacedLoad>,
    /// Every name, those of loads with a mistake included.
    pub(super) names: Vec<String>,
    /// Whether a name is missing, so that nobody can say which ones there are.
    nameless: bool,
}

impl Loads {
    /// The load's name, if there is such a load; reports it where not.
    pub(super) fn name(&self, item: &Item<'_>) -> Option<String> {
        let name = item.text()?.value;
        if !self.nameless && !self.names.iter().any(|other| other == name) {
            let names = self.names.iter().map(String::as_str);
            item.report(format!("no load `{name}`"), suggest(name, names));
            return None;
        }
        Some(name.to_owned())
    }
}

/// Reads every load of a profile that lies in `folder`.
pub(super) fn read(problems: &Problems, item: &Item<'_>, folder: &Path) -> Loads {
    let mut names: Vec<At<String>> = Vec::new();
    let mut loads = Loads::default();
    for element in item.list(LOADS_MAX).unwrap_or_default() {
        let Some(table) = element.table("[[load]]") else { continue };
        let (name, load) = one(problems, table, folder);
        let Some(name) = name else {
            loads.nameless = true;
            continue;
        };
        if let Some(first) = names.iter().find(|other| other.value == name.value) {
            problems.report(
                Diagnostic::new(
                    format!("two loads named `{}`", name.value),
                    name.span,
                    "name it differently",
                )
                .related(first.span.clone(), "the first"),
            );
            loads.nameless = true;
            continue;
        }
        names.push(name);
        loads.placed.extend(load);
    }
    loads.names = names.into_iter().map(|name| name.value).collect();
    loads
}

fn one(
    problems: &Problems,
    mut table: Table<'_>,
    folder: &Path,
) -> (Option<At<String>>, Option<PlacedLoad>) {
    let name = table.require("name", "name = \"burst\", or another").and_then(|item| name(&item));
    let parts = Part::ALL.map(|part| (part.name(), part));
    let part = table.get("part").map(|item| item.choice(&parts).map(|part| part.value));
    let arrival = table
        .require("arrival", "arrival = \"all-at-once\", or a table with its process")
        .and_then(|item| arrival::read(&item));
    let requests = match table.get("data") {
        Some(item) => of_file(problems, &mut table, &item, folder),
        None => drawn(problems, &mut table),
    };
    let max_concurrency =
        table.get("max_concurrency").map(|item| max_concurrency(problems, &item, arrival.as_ref()));
    let goodput = table.get("goodput").map(|item| goodput(&item));
    let poll_ms = table.get("poll_ms").map(|item| item.integer_u32(POLL_MS));
    let reader_threads = table.get("reader_threads").map(|item| item.integer_u32(READER_THREADS));
    let seed = match table.get("seed") {
        Some(item) => item.integer(0..=i64::MAX).map(|n| n.value.unsigned_abs()),
        None => Some(0),
    };
    let repeats = match table.get("repeats") {
        Some(item) => item.integer_u32(1..=REPEATS_MAX),
        None => Some(1),
    };
    let of_texts = requests.as_ref().is_some_and(|requests| {
        requests.data.as_ref().is_some_and(|data| data.spec.format.is_text())
    });
    let request = request::read(problems, &mut table, of_texts);
    table.finish(|_| None);

    let load = (|| {
        let (arrival, requests) = (arrival?, requests?);
        check_size(problems, &requests.size, &arrival)?;
        check_data(problems, &requests, &arrival)?;
        let replay_per_s = requests.data.as_ref().and_then(|data| data.per_s);
        let (data, path) = requests.data.map(|data| (data.spec, data.path)).unzip();
        let spec = LoadSpec {
            arrival: arrival.value,
            size: requests.size.value,
            classes: requests.classes,
            seed: seed?,
            request: request?,
            data,
            conversation: requests.conversation,
            max_concurrency: absent_or_right(max_concurrency)?,
            goodput: absent_or_right(goodput)?,
            poll_ms: absent_or_right(poll_ms)?,
            reader_threads: absent_or_right(reader_threads)?,
            answers: None,
        };
        let part = absent_or_right(part)?;
        let (name, repeats) = (name.clone()?.value, repeats?);
        let load = NamedLoad { name, part, spec, repeats, data_file: path, replay_per_s };
        Some(PlacedLoad { load, longest: requests.longest })
    })();
    (name, load)
}

fn name(item: &Item<'_>) -> Option<At<String>> {
    let text = item.text()?;
    if !is_name(text.value) {
        item.report(
            format!("`{}` is no name of a load", text.value),
            "expected lower-case letters, digits and dashes",
        );
        return None;
    }
    Some(At { value: text.value.to_owned(), span: text.span })
}

/// What is asked, however it is said.
struct Requests {
    size: At<Size>,
    classes: Vec<Class>,
    longest: At<u64>,
    conversation: Option<Conversation>,
    data: Option<Data>,
}

/// Requests whose lengths are drawn.
fn drawn(problems: &Problems, table: &mut Table<'_>) -> Option<Requests> {
    let size = size(problems, table);
    if let Some(None) = size {
        problems.report(Diagnostic::new(
            "[[load]] lacks its size",
            table.span.clone(),
            "add requests = N or duration_s = N",
        ));
    }
    let conversation = conversation(table);
    let turns_max = conversation.flatten().map_or(1, |conversation| conversation.turns_max);
    let (classes, longest) = classes(problems, table, turns_max)?;
    Some(Requests { size: size??, classes, longest, conversation: conversation?, data: None })
}

/// Requests of a file.
fn of_file(
    problems: &Problems,
    table: &mut Table<'_>,
    item: &Item<'_>,
    folder: &Path,
) -> Option<Requests> {
    let drawn = ["input_tokens", "mix", "prefix", "turns", "think_time_s"];
    let others: Vec<_> = drawn.into_iter().filter_map(|key| table.get(key)).collect();
    for other in &others {
        problems.report(
            Diagnostic::new(
                format!("`{}` beside `data`", other.key.value),
                other.key.span.clone(),
                "take it out: the file says what is asked",
            )
            .related(item.key.span.clone(), "the file"),
        );
    }
    let size = size(problems, table);
    let output_tokens = match table.get("output_tokens") {
        Some(item) => range(&item).map(Some),
        None => Some(None),
    };
    let data = data::read(item, folder, size?, output_tokens?)?;
    let class = Class {
        name: "all".to_owned(),
        share: Decimal::from_int(1)?,
        input_tokens: data.input_tokens,
        output_tokens: data.output_tokens,
        prefix: None,
    };
    others.is_empty().then(|| Requests {
        size: data.size.clone(),
        classes: vec![class],
        longest: At { value: data.longest, span: item.span() },
        conversation: None,
        data: Some(data),
    })
}

/// Turns of a conversation and the time between them; `Some(None)` where requests stand alone.
fn conversation(table: &mut Table<'_>) -> Option<Option<Conversation>> {
    let (turns, think) = (table.get("turns"), table.get("think_time_s"));
    let Some(turns) = turns else {
        let Some(think) = think else { return Some(None) };
        think.report("`think_time_s` without `turns`", "add turns = N or [min, max]");
        return None;
    };
    let (turns_min, turns_max) = ends(&turns, |item| item.integer_u32(1..=TURNS_MAX))?;
    let seconds = |item: &Item<'_>| {
        let seconds = item.decimal()?.value;
        if !(0..=DURATION_S_MAX * 1_000_000).contains(&seconds.millionths()) {
            item.report("`think_time_s` is out of range", "expected seconds, 0 or more");
            return None;
        }
        Some(seconds)
    };
    let (shortest, longest) = match think {
        Some(think) => ends(&think, seconds)?,
        None => Default::default(),
    };
    let [think_ms_min, think_ms_max] =
        [shortest, longest].map(|seconds| seconds.millionths().unsigned_abs() / 1000);
    Some(Some(Conversation { turns_min, turns_max, think_ms_min, think_ms_max }))
}

fn max_concurrency(
    problems: &Problems,
    item: &Item<'_>,
    arrival: Option<&At<Arrival>>,
) -> Option<u32> {
    let count = item.integer_u32(1..=CONCURRENCY_MAX)?;
    match arrival {
        Some(At { value: Arrival::ClosedLoop { .. }, span }) => {
            problems.report(
                Diagnostic::new(
                    "`max_concurrency` of a closed loop",
                    item.key.span.clone(),
                    "take it out: `concurrency` is the limit",
                )
                .related(span.clone(), "the closed loop"),
            );
            None
        }
        _ => Some(count),
    }
}

/// Limits on one request.
fn goodput(item: &Item<'_>) -> Option<Goodput> {
    let mut table = item.table("`goodput`")?;
    let [ttft_ms, tpot_ms, e2e_ms] =
        ["ttft_ms", "tpot_ms", "e2e_ms"].map(|key| match table.get(key) {
            Some(item) => item.positive_decimal(1000 * DURATION_S_MAX).map(Some),
            None => Some(None),
        });
    table.finish(|_| None);
    let limits = Goodput { ttft_ms: ttft_ms?, tpot_ms: tpot_ms?, e2e_ms: e2e_ms? };
    if limits == Goodput::default() {
        item.report("`goodput` without a limit", "give ttft_ms, tpot_ms or e2e_ms");
        return None;
    }
    Some(limits)
}

/// Whether a text can be the name of a load or a sweep: it becomes a file's name.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 60
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The size; `Some(None)` where none is given.
fn size(problems: &Problems, table: &mut Table<'_>) -> Option<Option<At<Size>>> {
    let (requests, duration) = (table.get("requests"), table.get("duration_s"));
    match (requests, duration) {
        (Some(item), None) => {
            let n = item.integer_u32(1..=REQUESTS_MAX)?;
            Some(Some(At { value: Size::Requests(n), span: item.span() }))
        }
        (None, Some(item)) => {
            let ms = item.positive_decimal(DURATION_S_MAX)?.millionths() / 1000;
            if ms == 0 {
                item.report("`duration_s` is below a millisecond", "expected 0.001 or more");
                return None;
            }
            Some(Some(At { value: Size::DurationMs(ms.unsigned_abs()), span: item.span() }))
        }
        (Some(requests), Some(duration)) => {
            problems.report(
                Diagnostic::new(
                    "a load has `requests` or `duration_s`, not both",
                    duration.key.span,
                    "take one out",
                )
                .related(requests.key.span, "the other"),
            );
            None
        }
        (None, None) => Some(None),
    }
}

/// Whether size and arrival fit each other.
fn check_size(problems: &Problems, size: &At<Size>, arrival: &At<Arrival>) -> Option<()> {
    let objection = |span: &Span, message: &str, label: String| {
        problems.report(Diagnostic::new(message, span.clone(), label));
        None
    };
    let rate = match &arrival.value {
        Arrival::AllAtOnce {} | Arrival::Replay { .. } | Arrival::ClosedLoop { .. } => None,
        Arrival::Poisson { requests_per_second: rate }
        | Arrival::Gamma { requests_per_second: rate, .. }
        | Arrival::Constant { requests_per_second: rate } => Some(*rate),
        Arrival::Ramp { requests_per_second_start: a, requests_per_second_end: b } => {
            Some(*a.max(b))
        }
    };
    match (&arrival.value, size.value, rate) {
        (Arrival::AllAtOnce {}, Size::DurationMs(_), _) => {
            objection(&size.span, "a burst has no duration", "say requests = N instead".to_owned())
        }
        (Arrival::Ramp { .. }, Size::Requests(_), _) => objection(
            &size.span,
            "a ramp rises over its duration",
            "say duration_s = N instead".to_owned(),
        ),
        (_, Size::DurationMs(ms), Some(rate)) => {
            let requests = i128::from(rate.millionths()) * i128::from(ms) / 1_000_000_000;
            if requests > i128::from(REQUESTS_MAX) {
                return objection(
                    &size.span,
                    "the load has too many requests",
                    format!("about {requests}; expected at most {REQUESTS_MAX}"),
                );
            }
            Some(())
        }
        _ => Some(()),
    }
}

/// Whether a file and an arrival fit each other.
fn check_data(problems: &Problems, requests: &Requests, arrival: &At<Arrival>) -> Option<()> {
    let objection = |span: &Span, message: &str, label: &str| {
        problems.report(Diagnostic::new(message, span.clone(), label));
        None
    };
    let replays = matches!(arrival.value, Arrival::Replay { .. });
    match &requests.data {
        None if replays => objection(
            &arrival.span,
            "a replay without a file",
            "add data = { file = \"trace.jsonl\", format = \"mooncake\" }",
        ),
        Some(data) if replays && !data.spec.format.has_times() => objection(
            &arrival.span,
            "the file has no times to replay",
            "expected another process, or a file of format = \"mooncake\" or \"chatlog\"",
        ),
        Some(data) if !replays && matches!(data.size.value, Size::DurationMs(_)) => objection(
            &data.size.span,
            "requests of a file have a number and no duration",
            "say requests = N, or nothing for all of them",
        ),
        _ => Some(()),
    }
}

/// The classes, and the longest of them at the end of a conversation of so many turns.
fn classes(
    problems: &Problems,
    table: &mut Table<'_>,
    turns_max: u32,
) -> Option<(Vec<Class>, At<u64>)> {
    let Some(mix) = table.get("mix") else {
        let span = table.span.clone();
        let (class, longest) = class(table, Some("all"), Decimal::from_int(1), span, turns_max)?;
        return Some((vec![class], longest));
    };
    for key in ["input_tokens", "output_tokens", "prefix"] {
        if let Some(item) = table.get(key) {
            problems.report(
                Diagnostic::new(
                    format!("`{key}` beside `mix`"),
                    item.key.span,
                    "move it into each element of the mix",
                )
                .related(mix.key.span.clone(), "the mix"),
            );
        }
    }
    let mut classes: Vec<Class> = Vec::new();
    let mut longest: Option<At<u64>> = None;
    let mut complete = true;
    for element in mix.list(CLASSES_MAX)? {
        let mut table = element.table("an element of `mix`")?;
        let share = table.require("share", "share = its part of the requests");
        let share = share.and_then(|item| item.positive_decimal(SHARE_MAX));
        let read = class(&mut table, None, share, element.span(), turns_max);
        table.finish(|_| None);
        let Some((class, length)) = read else {
            complete = false;
            continue;
        };
        if classes.iter().any(|other| other.name == class.name) {
            element.report(
                format!("two classes named `{}`", class.name),
                "give each a `name` of its own",
            );
            complete = false;
        }
        classes.push(class);
        if longest.as_ref().is_none_or(|longest| length.value > longest.value) {
            longest = Some(length);
        }
    }
    complete.then_some((classes, longest?))
}

fn class(
    table: &mut Table<'_>,
    name: Option<&str>,
    share: Option<Decimal>,
    span: Span,
    turns_max: u32,
) -> Option<(Class, At<u64>)> {
    let input = table.require("input_tokens", "input_tokens = N or [min, max]");
    let input = input.and_then(|item| range(&item));
    let output = table.require("output_tokens", "output_tokens = N or [min, max]");
    let output_span = output.as_ref().map_or(span, Item::span);
    let output = output.and_then(|item| range(&item));
    let prefix = match table.get("prefix") {
        Some(item) => Some(prefix(&item)?),
        None => None,
    };
    let name = match name {
        Some(name) => Some(name.to_owned()),
        None => match table.get("name") {
            Some(item) => item.text().map(|text| text.value.to_owned()),
            None => input.zip(output).map(|(input, output)| default_name(input, output)),
        },
    };
    let (input_tokens, output_tokens) = (input?, output?);
    let turn = u64::from(input_tokens.max) + u64::from(output_tokens.max);
    let length = u64::from(turns_max) * turn + prefix.map_or(0, |prefix| u64::from(prefix.tokens));
    let class = Class { name: name?, share: share?, input_tokens, output_tokens, prefix };
    Some((class, At { value: length, span: output_span }))
}

fn default_name(input: TokenRange, output: TokenRange) -> String {
    let text = |range: TokenRange| {
        if range.min == range.max {
            range.min.to_string()
        } else {
            format!("{}-{}", range.min, range.max)
        }
    };
    format!("{} in, {} out", text(input), text(output))
}

fn range(item: &Item<'_>) -> Option<TokenRange> {
    let (min, max) = ends(item, |item| item.integer_u32(1..=TOKENS_MAX))?;
    Some(TokenRange { min, max })
}

/// The ends of a range that is written as `[min, max]`, or as one value.
fn ends<T: Copy + PartialOrd + fmt::Display>(
    item: &Item<'_>,
    read: impl Fn(&Item<'_>) -> Option<T>,
) -> Option<(T, T)> {
    if !matches!(item.raw(), toml::de::DeValue::Array(_)) {
        let end = read(item)?;
        return Some((end, end));
    }
    let elements = item.list(CLASSES_MAX)?;
    let [min, max] = elements.as_slice() else {
        item.report(format!("`{}` is no range", item.key.value), "expected N or [min, max]");
        return None;
    };
    let (low, high) = (read(min)?, read(max)?);
    if low > high {
        let label = format!("did you mean [{high}, {low}]?");
        item.report(format!("`{}` is an empty range", item.key.value), label);
        return None;
    }
    Some((low, high))
}

fn prefix(item: &Item<'_>) -> Option<Prefix> {
    let mut table = item.table("`prefix`")?;
    let groups = table.require("groups", "groups = how many distinct prefixes");
    let groups = groups.and_then(|item| item.integer_u32(1..=REQUESTS_MAX));
    let tokens = table.require("tokens", "tokens = the length of each");
    let tokens = tokens.and_then(|item| item.integer_u32(1..=TOKENS_MAX));
    table.finish(|_| None);
    Some(Prefix { groups: groups?, tokens: tokens? })
}
