use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    dataset,
    prompt::Prompts,
    schema::{Class, Conversation, DataFormat, DataSpec, Prefix, TokenRange},
};

const TRACE: &str = r#"
{"timestamp":1000,"input_length":600,"output_length":5,"hash_ids":[7,8]}
{"timestamp":1400,"input_length":1030,"output_length":6,"hash_ids":[7,9]}
{"timestamp":3000,"input_length":512,"output_length":7,"hash_ids":[7,8,3]}
"#;

fn class(prefix: Option<Prefix>) -> Class {
    Class {
        name: "only".into(),
        share: "1".parse().expect("decimal"),
        input_tokens: TokenRange { min: 4, max: 9 },
        output_tokens: TokenRange { min: 2, max: 5 },
        prefix,
    }
}

fn poisson() -> Arrival {
    Arrival::Poisson { requests_per_second: "5".parse().expect("decimal") }
}

fn conversations(size: Size, turns: (u32, u32)) -> Workload {
    let mut spec =
        LoadSpec::drawn(poisson(), size, vec![class(Some(Prefix { groups: 2, tokens: 3 }))], 1);
    spec.conversation = Some(Conversation {
        turns_min: turns.0,
        turns_max: turns.1,
        think_ms_min: 10,
        think_ms_max: 20,
    });
    spec.into()
}

fn from_file(format: DataFormat, text: &str, arrival: Arrival, size: Size) -> Workload {
    let mut rows = Vec::new();
    let digest = dataset::read(format, text.as_bytes(), &mut |row| rows.push(row)).expect("rows");
    let mut spec = LoadSpec::drawn(arrival, size, vec![class(None)], 1);
    spec.data = Some(DataSpec { format, digest, output_tokens: None, think_ms_max: None });
    Workload::new(spec, rows)
}

fn replay(speed_up: &str, size: Size) -> Workload {
    let speed_up = speed_up.parse().expect("decimal");
    from_file(DataFormat::Mooncake, TRACE, Arrival::Replay { speed_up }, size)
}

/// Other digests here mean that load points are no longer what they were: their keys promise it.
#[test]
fn plans_are_the_same_everywhere() {
    let mixed = LoadSpec::drawn(
        poisson(),
        Size::DurationMs(20_000),
        vec![class(None), class(Some(Prefix { groups: 3, tokens: 8 }))],
        7,
    );
    let custom =
        "{\"prompt\":\"one two\",\"output_tokens\":3}\n{\"prompt\":\"three\",\"output_tokens\":1}";
    let digests = [
        ("mixed", mixed.into()),
        ("conversations", conversations(Size::Requests(50), (1, 5))),
        ("trace", replay("2", Size::Requests(3))),
        ("custom", from_file(DataFormat::Custom, custom, poisson(), Size::Requests(2))),
    ]
    .map(|(name, load): (_, Workload)| format!("{name}: {}", plan_digest(&load).short()));
    insta::assert_debug_snapshot!(digests);
}

/// What was measured on an H100 keeps its keys and its plans.
#[test]
fn measured_trials_are_still_what_their_keys_say() {
    let a = include_str!("../../../models/measured/h100-qwen2.5-7b-a.jsonl");
    let b = include_str!("../../../models/measured/h100-qwen2.5-7b-b.jsonl");
    for line in a.lines().chain(b.lines()) {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let load = &line["preimage"]["load"];
        let spec: LoadSpec = serde_json::from_value(load.clone()).expect("a load");
        assert_eq!(serde_json::to_value(&spec).expect("JSON"), *load);
        if let Some(plan) = line["outcome"]["plan"].as_str() {
            assert_eq!(plan_digest(&spec.into()).to_string(), plan);
        }
    }
}

#[test]
fn a_trace_keeps_its_gaps_and_its_shared_blocks() {
    let load = replay("2", Size::Requests(3));
    let plan: Vec<_> = Plan::new(&load).collect();
    let at_ms: Vec<_> = plan.iter().map(|r| r.at_ns.map(|ns| ns / 1_000_000)).collect();
    assert_eq!(at_ms, [Some(0), Some(200), Some(1_000)]);
    let prompts = Prompts::new(&load, 32_000);
    let tokens: Vec<Vec<u32>> = plan.iter().map(|r| prompts.draw(r).collect()).collect();
    assert_eq!(tokens.iter().map(Vec::len).collect::<Vec<_>>(), [600, 1_030, 512]);
    assert_eq!(tokens[0][..512], tokens[1][..512]);
    assert_eq!(tokens[0][..512], tokens[2][..]);
    assert_ne!(tokens[0][512..], tokens[1][512..600]);
    // What no block covers is the request's own.
    assert_eq!(plan[1].prompt[2], Piece { source: Source::Ask(1), tokens: 6 });
}

#[test]
fn a_replay_ends_with_its_duration_or_its_count() {
    assert_eq!(Plan::new(&replay("1", Size::DurationMs(2_000))).count(), 2);
    assert_eq!(Plan::new(&replay("1", Size::DurationMs(2_001))).count(), 3);
    assert_eq!(Plan::new(&replay("1", Size::Requests(1))).count(), 1);
}

#[test]
fn texts_go_with_their_requests() {
    let lines = "{\"prompt\":\"one two\",\"output_tokens\":3}\n{\"prompt\":\"three\"}";
    let load = from_file(DataFormat::Custom, lines, Arrival::AllAtOnce {}, Size::Requests(2));
    let plan: Vec<_> = Plan::new(&load).collect();
    let found: Vec<_> = plan.iter().map(|r| (load.text(r), r.output_tokens)).collect();
    assert_eq!(found, [(Some("one two"), 3), (Some("three"), 1)]);
}

proptest! {
    #[test]
    fn each_turn_begins_with_all_that_was_said(requests in 1_u32..60, least in 1_u32..4, more in 0_u32..4) {
        let load = conversations(Size::Requests(requests), (least, least + more));
        let prompts = Prompts::new(&load, 32_000);
        let mut plan = Plan::new(&load);
        let mut all = Vec::new();
        while let Some(conversation) = plan.conversation() {
            prop_assert!(conversation.len() <= (least + more) as usize);
            prop_assert!(conversation[0].at_ns.is_some() && conversation[0].think_ns == 0);
            for pair in conversation.windows(2) {
                let [before, after]: [Vec<u32>; 2] =
                    [&pair[0], &pair[1]].map(|request| prompts.draw(request).collect());
                prop_assert_eq!(after.len(), pair[1].input_tokens as usize);
                prop_assert!(after.starts_with(&before));
                prop_assert!(after.len() > before.len() + pair[0].output_tokens as usize);
                prop_assert!((10_000_000..=20_000_000).contains(&pair[1].think_ns));
                prop_assert_eq!(pair[1].at_ns, None);
            }
            all.extend(conversation);
        }
        prop_assert_eq!(all.len(), requests as usize);
        prop_assert!(all.iter().zip(0..).all(|(request, id)| request.id == id));
        prop_assert_eq!(Plan::new(&load).collect::<Vec<_>>(), all);
    }

    #[test]
    fn sources_have_streams_of_their_own(id in any::<u32>(), block in 0..1_u64 << 63) {
        let sources = [Source::Ask(id), Source::Prefix(id), Source::Answer(id), Source::Block(block)];
        let streams: BTreeMap<u64, Source> = sources.map(|source| (source.stream(), source)).into();
        prop_assert_eq!(streams.len(), sources.len());
    }
}

#[test]
fn a_recorded_conversation_arrives_as_a_whole() {
    let sessions = dataset::tests::SESSIONS;
    let closed = Arrival::ClosedLoop { concurrency: 1 };
    let mut load = from_file(DataFormat::Weka, sessions, closed, Size::Requests(4));
    let turns = |load: &Workload| -> Vec<Vec<u64>> {
        let mut plan = Plan::new(load);
        std::iter::from_fn(|| plan.conversation())
            .map(|turns| turns.iter().map(|turn| turn.think_ns / 1_000_000).collect())
            .collect()
    };
    assert_eq!(turns(&load), [vec![0, 500, 10_000], vec![0]]);
    load.spec.data.as_mut().expect("a file").think_ms_max = Some(200);
    assert_eq!(turns(&load), [vec![0, 200, 200], vec![0]]);
    load.spec.size = Size::Requests(2);
    assert_eq!(turns(&load), [vec![0, 200]]);
}

#[test]
fn the_plan_says_what_a_cache_can_find() {
    let closed = || Arrival::ClosedLoop { concurrency: 1 };
    let load = from_file(DataFormat::Weka, dataset::tests::SESSIONS, closed(), Size::Requests(4));
    // The third call shares 128 tokens with the first; 464 tokens are asked in all.
    let expected = |hits: f64| crate::hist::round(100.0 * hits / 464.0);
    assert_eq!(prefix_hit_percent(&load, 16, 4), Some(expected(128.0)));
    assert_eq!(prefix_hit_percent(&load, 100, 4), Some(expected(100.0)));
    // Whoever asks the same twice has its last token computed all the same.
    let twice = TRACE.lines().nth(1).expect("a line").replace("600", "512") + "\n";
    let load = from_file(DataFormat::Mooncake, &twice.repeat(2), closed(), Size::Requests(2));
    assert_eq!(prefix_hit_percent(&load, 16, 2), Some(crate::hist::round(100.0 * 496.0 / 1024.0)));
    let text = from_file(DataFormat::Custom, r#"{"prompt":"a b"}"#, closed(), Size::Requests(1));
    assert_eq!(prefix_hit_percent(&text, 16, 1), None);
}
