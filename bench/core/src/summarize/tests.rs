use super::*;
use crate::schema::{
    Arrival, Class, Cost, Energy, EnergyReading, Goodput, LoadSpec, Size, SteadyWindow, TokenRange,
};

fn load(requests: u32, arrival: Arrival) -> Workload {
    let class = |name: &str| Class {
        name: name.into(),
        share: "1".parse().expect("decimal"),
        input_tokens: TokenRange { min: 4, max: 4 },
        output_tokens: TokenRange { min: 3, max: 3 },
        prefix: None,
    };
    let classes = vec![class("short"), class("long")];
    LoadSpec::drawn(arrival, Size::Requests(requests), classes, 1).into()
}

/// A request of three tokens, the last two in one event, at the given times in milliseconds.
fn sample(id: u32, intended: u64, sent: u64, first: u64, last: u64) -> RequestSample {
    let ns = |ms: u64| ms * 1_000_000;
    RequestSample {
        id,
        class: (id % 2) as u16,
        intended_ns: ns(intended),
        queued_ns: 0,
        sent_ns: ns(sent),
        first_byte_ns: Some(ns(first)),
        end_ns: ns(last),
        tokens: vec![(ns(first), 1), (ns(last), 2)],
        input_tokens: 4,
        output_tokens: 3,
        status: RequestStatus::Completed,
        phases: Some(Phases { queue_ns: ns(2), prefill_ns: ns(5), decode_ns: ns(last - first) }),
        ..RequestSample::default()
    }
}

fn server(requests: u64) -> ServerObservation {
    ServerObservation {
        requests_succeeded: Some(requests),
        generation_tokens: Some(3 * requests),
        ..ServerObservation::default()
    }
}

fn measure(samples: &[RequestSample], server: &ServerObservation) -> Measured {
    let mut summarizer = Summarizer::new(&load(samples.len() as u32, Arrival::AllAtOnce {}));
    samples.iter().for_each(|sample| summarizer.push(sample));
    summarizer.finish(server, &Observed::default(), "launch", None)
}

#[test]
fn the_wait_for_a_place_is_no_send_lag() {
    // Due at 10 ms, 3 ms without a place, 2 ms late.
    let queued = RequestSample { queued_ns: 3_000_000, ..sample(0, 10, 15, 30, 40) };
    let mut load = load(1, Arrival::AllAtOnce {});
    load.spec.max_concurrency = Some(1);
    let mut summarizer = Summarizer::new(&load);
    summarizer.push(&queued);
    let Summary { client_queue, send_lag, e2e, anatomy, .. } =
        summarizer.finish(&server(1), &Observed::default(), "launch", None).summary;
    assert_eq!((client_queue.map(|q| q.mean_ms), send_lag.mean_ms), (Some(3.0), 2.0));
    let anatomy = anatomy.expect("the server gives phases");
    assert_eq!((anatomy.send_lag_ms, anatomy.e2e_ms()), (5.0, e2e.mean_ms));
    // Without a limit nothing is written of it.
    let plain = serde_json::to_string(&measure(&[sample(0, 10, 15, 30, 40)], &server(1)));
    assert!(!plain.expect("JSON").contains("client_queue"));
}

#[test]
fn latency_counts_from_the_intended_time() {
    // Due at 10 ms but sent at 15: the lag is the client's fault and is still in the latency.
    let measured = measure(&[sample(0, 10, 15, 30, 40)], &server(1));
    assert_eq!(measured.summary.ttft.mean_ms, 20.0);
    assert_eq!(measured.summary.e2e.mean_ms, 30.0);
    assert_eq!(measured.summary.send_lag.mean_ms, 5.0);
    assert_eq!(measured.summary.tpot.mean_ms, 5.0);
}

#[test]
fn tokens_of_one_event_came_together() {
    let measured = measure(&[sample(0, 0, 0, 30, 40)], &server(1));
    assert_eq!(measured.summary.itl.count, 2);
    assert_eq!(measured.summary.itl.mean_ms, 5.0);
    assert_eq!(measured.summary.itl.max_ms, 10.0);
}

#[test]
fn the_parts_add_up_to_the_whole() {
    let samples = [sample(0, 0, 1, 30, 90), sample(1, 0, 3, 37, 61)];
    let measured = measure(&samples, &server(2));
    let anatomy = measured.summary.anatomy.expect("the samples have phases");
    assert!((anatomy.e2e_ms() - measured.summary.e2e.mean_ms).abs() < 1e-6);
    assert_eq!(anatomy.queue_ms, 2.0);
}

fn failed(id: u32, kind: &str) -> RequestSample {
    let status = RequestStatus::Failed(kind.to_owned());
    RequestSample { status, tokens: Vec::new(), ..sample(id, 0, 0, 5_000, 9_000) }
}

#[test]
fn a_failure_ranks_behind_every_completed_request() {
    let text = Some("overloaded".into());
    let quoted = RequestSample { failure_text: text, ..failed(1, "http_503") };
    let measured = measure(&[sample(0, 0, 0, 30, 40), quoted, sample(2, 0, 0, 31, 41)], &server(2));
    let Summary { e2e, counts, .. } = &measured.summary;
    assert_eq!((e2e.count, e2e.failed, e2e.mean_ms), (2, 1, 40.5));
    assert_eq!((e2e.p50_ms, e2e.p90_ms, e2e.max_ms), (41.0, f64::INFINITY, f64::INFINITY));
    assert_eq!(measured.summary.classes[1].e2e.p50_ms, f64::INFINITY, "all of its requests");
    assert_eq!(counts.failed["http_503"], 1);
    assert!(!measured.is_valid(), "a third of the requests failed");
    let errors = measured.checks.iter().find(|check| check.name == "errors").expect("a check");
    assert!(
        errors.detail.contains("1 of 3 requests failed (http_503 1: overloaded)"),
        "{errors:?}"
    );
    let json = serde_json::to_string(&measured).expect("JSON");
    assert!(json.contains("\"p99_ms\":\"not reached\""), "{json}");
    assert_eq!(serde_json::from_str::<Measured>(&json).expect("the same"), measured);
}

#[test]
fn few_failures_flatter_no_metric() {
    let metrics = |failures: u32| {
        let samples: Vec<_> = (0..1_000)
            .map(|id| if id < failures { failed(id, "timeout") } else { sample(id, 0, 0, 30, 40) })
            .collect();
        let measured = measure(&samples, &server(1_000 - u64::from(failures)));
        assert!(measured.is_valid(), "{:?}", measured.checks);
        crate::metric::all(&measured)
    };
    let (one, more, many) = (metrics(10), metrics(11), metrics(60));
    assert_eq!((one["e2e_p99_ms"], more["e2e_p99_ms"]), (40.0, f64::INFINITY));
    assert_eq!((more["e2e_p95_ms"], many["e2e_p95_ms"]), (40.0, f64::INFINITY));
    assert_eq!((one["e2e_mean_ms"], more["e2e_mean_ms"]), (40.0, f64::INFINITY));
    assert!(one["output_tokens_per_s"].is_finite());
    assert_eq!(more["output_tokens_per_s"], f64::NEG_INFINITY);
    assert_eq!((many["failed_share"], many["ttft_p50_ms"]), (0.06, 30.0));
}

#[test]
fn chunks_of_several_tokens_have_gaps_of_their_own() {
    let measured = measure(&[sample(0, 0, 0, 30, 40)], &server(1));
    let chunks = measured.summary.inter_chunk.expect("the last event holds two tokens");
    assert_eq!((chunks.count, chunks.mean_ms), (1, 10.0));
    let one = RequestSample {
        tokens: vec![(30_000_000, 1), (35_000_000, 1), (40_000_000, 1)],
        ..sample(0, 0, 0, 30, 40)
    };
    assert_eq!(measure(&[one], &server(1)).summary.inter_chunk, None, "they are the tokens' gaps");
}

#[test]
fn speculation_is_counted_where_there_is_any() {
    let drafts = |drafts, accepted| {
        let drafts = ServerObservation { drafts, accepted_draft_tokens: accepted, ..server(1) };
        measure(&[sample(0, 0, 0, 30, 40)], &drafts).summary.server.accepted_length_mean
    };
    assert_eq!(
        (drafts(Some(4), Some(6)), drafts(Some(0), Some(0)), drafts(None, None)),
        (Some(2.5), None, None)
    );
}

#[test]
fn a_trial_in_which_nothing_completed_is_invalid() {
    let mut failed = sample(0, 0, 0, 1, 2);
    failed.status = RequestStatus::Failed("connection_reset".into());
    let measured = measure(&[failed], &server(0));
    assert!(!measured.is_valid());
    assert_eq!(measured.summary.anatomy, None);
}

#[test]
fn each_lie_fails_its_check() {
    let failed_checks = |samples: &[RequestSample], server: &ServerObservation| {
        let measured = measure(samples, server);
        let failed = measured.checks.into_iter().filter(|c| !c.passed).map(|c| c.name);
        failed.collect::<Vec<_>>()
    };
    let good = [sample(0, 0, 0, 30, 40), sample(1, 0, 0, 30, 40)];
    assert_eq!(failed_checks(&good, &server(2)), Vec::<String>::new());

    let one_token_more = ServerObservation { generation_tokens: Some(7), ..server(2) };
    assert_eq!(failed_checks(&good, &one_token_more), ["tokens-match"]);
    let one_request_more = ServerObservation { requests_succeeded: Some(3), ..server(2) };
    assert_eq!(failed_checks(&good, &one_request_more), ["completions-match"]);

    let prompts = |tokens| ServerObservation { prompt_tokens: Some(tokens), ..server(2) };
    assert_eq!(failed_checks(&good, &prompts(8)), Vec::<String>::new());
    assert_eq!(failed_checks(&good, &prompts(9)), ["prompt-tokens-match"]);
    let cut = RequestSample { input_tokens: 3, ..good[0].clone() };
    assert_eq!(failed_checks(&[cut, good[1].clone()], &prompts(7)), ["prompt-tokens-match"]);

    let slower = |ms| ServerObservation { e2e_mean_ms: Some(ms), ..server(2) };
    assert_eq!(failed_checks(&good, &slower(41.0)), Vec::<String>::new());
    assert_eq!(failed_checks(&good, &slower(43.0)), ["latency-match"]);

    let late = [sample(0, 0, 9, 30, 40), sample(1, 0, 9, 30, 40)];
    assert_eq!(failed_checks(&late, &server(2)), ["send-lag"]);

    let long = [sample(0, 0, 0, 30, 10_000), sample(1, 0, 0, 30, 10_000)];
    let wrong_gauges =
        ServerObservation { running_mean: Some(5.0), waiting_mean: Some(0.0), ..server(2) };
    assert_eq!(failed_checks(&long, &wrong_gauges), ["littles-law"]);
    let right_gauges = ServerObservation { running_mean: Some(2.0), ..wrong_gauges.clone() };
    assert_eq!(failed_checks(&long, &right_gauges), Vec::<String>::new());
    let seldom_read = ServerObservation { held_error: Some(2.5), ..wrong_gauges };
    assert_eq!(failed_checks(&long, &seldom_read), Vec::<String>::new());
    let wrong_still = ServerObservation { held_error: Some(0.5), ..seldom_read };
    assert_eq!(failed_checks(&long, &wrong_still), ["littles-law"]);
    let polled = |polls| ServerObservation { polls: Some(polls), ..wrong_still.clone() };
    assert_eq!(failed_checks(&long, &polled(20)), ["littles-law"]);
    assert_eq!(failed_checks(&long, &polled(19)), Vec::<String>::new(), "too few to say");

    let mut summarizer = Summarizer::new(&load(2, Arrival::AllAtOnce {}));
    summarizer.push(&good[0]);
    let cut = summarizer.finish(&server(1), &Observed::default(), "launch", None);
    assert!(cut.checks.iter().any(|c| c.name == "all-sent" && !c.passed));
}

#[test]
fn a_request_is_good_when_it_keeps_every_limit() {
    // TTFT, TPOT and E2E of 30, 5 and 40 ms; the first token of the second comes a millisecond late,
    // the third fails.
    let failed = RequestSample {
        status: RequestStatus::Failed("http_503".into()),
        ..sample(2, 0, 0, 30, 40)
    };
    let samples = [sample(0, 0, 0, 30, 40), sample(1, 0, 0, 31, 41), failed];
    let good = |limits: [Option<&str>; 3]| {
        let [ttft_ms, tpot_ms, e2e_ms] =
            limits.map(|limit| limit.map(|ms| ms.parse().expect("decimal")));
        let mut load = load(3, Arrival::AllAtOnce {});
        load.spec.goodput = Some(Goodput { ttft_ms, tpot_ms, e2e_ms });
        let mut summarizer = Summarizer::new(&load);
        samples.iter().for_each(|sample| summarizer.push(sample));
        let measured = summarizer.finish(&server(2), &Observed::default(), "launch", None);
        let metrics = crate::metric::all(&measured);
        (measured.summary.good, metrics["goodput_requests_per_s"], metrics["goodput_share"])
    };
    let duration_s = 0.041;
    assert_eq!(good([Some("30"), Some("5"), Some("40")]), (Some(1), 1.0 / duration_s, 1.0 / 3.0));
    assert_eq!(good([Some("31"), None, None]), (Some(2), 2.0 / duration_s, 2.0 / 3.0));
    assert_eq!(good([None, Some("4.9"), None]), (Some(0), 0.0, 0.0));
    assert_eq!(good([None, None, Some("39.999999")]), (Some(0), 0.0, 0.0));
}

#[test]
fn latency_is_normalised_by_each_requests_tokens() {
    // 30 ms for 3 tokens, 60 for 1: 10 and 60 ms a token.
    let short = RequestSample { output_tokens: 1, ..sample(1, 0, 0, 30, 60) };
    let measured = measure(&[sample(0, 0, 0, 10, 30), short], &server(2));
    assert_eq!(measured.summary.normalized_latency_mean_ms, Some(35.0));
}

#[test]
fn a_backlog_is_saturated_and_valid() {
    let arrival = Arrival::Constant { requests_per_second: "10".parse().expect("decimal") };
    let mut summarizer = Summarizer::new(&load(600, arrival));
    for i in 0..600_u64 {
        let due = 100 * i;
        summarizer.push(&sample(i as u32, due, due, due + 50 + 100 * i, due + 60 + 100 * i));
    }
    let measured = summarizer.finish(&server(600), &Observed::default(), "launch", None);
    assert!(measured.saturated);
    assert!(measured.is_valid());
}

#[test]
fn order_of_samples_does_not_matter() {
    let samples = [sample(0, 0, 1, 30, 90), sample(1, 0, 3, 37, 61), sample(2, 5, 5, 38, 60)];
    let mut reversed = samples.clone();
    reversed.reverse();
    assert_eq!(measure(&samples, &server(3)), measure(&reversed, &server(3)));
}

#[test]
fn a_conversation_is_done_when_its_last_turn_is() {
    let think = crate::schema::Conversation {
        turns_min: 2,
        turns_max: 2,
        think_ms_min: 0,
        think_ms_max: 0,
    };
    let mut load = load(6, Arrival::AllAtOnce {});
    load.spec.conversation = Some(think);
    let ms = |ms: &str| Some(ms.parse().expect("decimal"));
    load.spec.goodput = Some(Goodput { ttft_ms: ms("30"), ..Goodput::default() });
    let mut summarizer = Summarizer::new(&load);
    let turns = [
        sample(0, 0, 0, 30, 40),
        sample(1, 50, 50, 80, 90),
        sample(2, 0, 0, 30, 40),
        sample(3, 50, 50, 81, 100),
        sample(4, 0, 0, 30, 40),
        failed(5, "timeout"),
    ];
    // In any order.
    turns.iter().rev().for_each(|turn| summarizer.push(turn));
    let found = summarizer.finish(&server(5), &Observed::default(), "launch", None);
    let totals = found.summary.conversations.expect("there are some");
    assert_eq!((totals.begun, totals.good), (3, Some(1)));
    assert_eq!((totals.latency.count, totals.latency.failed), (2, 1));
    assert_eq!((totals.latency.p50_ms, totals.latency.p95_ms), (100.0, f64::INFINITY));
    assert!(found.summary.prefix_cache_hit_percent_planned.is_some(), "turns repeat what was said");
}

#[test]
fn energy_and_money_are_of_the_tokens_that_came() {
    let mut measured = measure(&[sample(0, 0, 0, 30, 40)], &server(1));
    measured.summary.steady_state = Some(SteadyState::Found(SteadyWindow {
        from_s: 2.0,
        to_s: 12.0,
        output_tokens_per_s: 1_000.0,
        requests_per_s: 10.0,
    }));
    measured.summary.output_tokens_per_s = 900.0;
    measured.summary.requests_per_s = 9.0;
    let value =
        |measured: &Measured, id| (crate::metric::find(id).expect("a metric").value)(measured);
    let joules = "joules_per_million_output_tokens";
    assert_eq!(value(&measured, joules), None, "nobody read the counter");
    let energy = |integrated| Energy { joules: 6_000.0, integrated_joules: integrated };
    for (integrated, expected) in [
        (None, Some(600_000.0)),
        (Some(6_200.0), Some(600_000.0)),
        (Some(5_300.0), None),
        (Some(6_700.0), None),
    ] {
        measured.summary.energy = Some(energy(integrated));
        assert_eq!(value(&measured, joules), expected, "{integrated:?}");
    }
    let (dollars, of_card) = ("dollars_per_million_output_tokens", "requests_per_s_per_card");
    assert_eq!((value(&measured, dollars), value(&measured, of_card)), (None, None));
    measured.observed.cost = Some(Cost { cards: 2, card_dollars_per_hour: Some(3.24) });
    assert_eq!(value(&measured, of_card), Some(4.5));
    assert_eq!(value(&measured, "output_tokens_per_s_per_card"), Some(450.0));
    let price = value(&measured, dollars).expect("a price");
    assert!((price - 2.0).abs() < 1e-9, "0.0018 $ a second for 900 tokens: {price}");
}

/// What the counters rise by is that of the steady window alone.
#[test]
fn energy_is_that_of_the_steady_window() {
    let samples: Vec<_> = (0..800)
        .map(|i| {
            sample(
                i,
                10 * u64::from(i),
                10 * u64::from(i),
                10 * u64::from(i) + 5,
                10 * u64::from(i) + 10,
            )
        })
        .collect();
    let reading =
        |at_s: f64| EnergyReading { at_s, counter_j: 40.0 + 500.0 * at_s, power_w: Some(510.0) };
    let energy = (0..=33).map(|i| reading(f64::from(i) / 4.0)).collect();
    let observed = ServerObservation { energy, ..server(800) };
    let Summary { steady_state, energy, .. } = measure(&samples, &observed).summary;
    let (Some(SteadyState::Found(window)), Some(energy)) = (steady_state, energy) else {
        panic!("{steady_state:?} {energy:?}")
    };
    let length_s = window.to_s - window.from_s;
    assert!((energy.joules - 500.0 * length_s).abs() < 1.0, "{energy:?} in {length_s} s");
    assert!(energy.integrated_joules.is_some_and(|joules| (joules - 510.0 * length_s).abs() < 1.0));
    assert_eq!(measure(&samples, &server(800)).summary.energy, None, "nobody read a counter");
}
