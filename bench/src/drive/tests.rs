use std::{
    sync::atomic::Ordering::{Relaxed, SeqCst},
    time::{Duration, Instant},
};

use bench_core::{
    schema::{
        Class, Conversation, LoadSpec, Observed, RequestSample, RequestStatus, ServerEngine,
        ServerObservation, TokenRange,
    },
    summarize::Summarizer,
    workload::{Plan, Workload},
};
use bytes::Bytes;
use proptest::prelude::*;

use crate::client::{
    answer::Answer,
    body::{Bodies, Dialect},
    connection::{Target, Traffic},
};

use super::{
    fake::{Fake, Step, chunk, good, stream_head, token},
    *,
};

fn load(arrival: Arrival, requests: u32) -> Workload {
    let class = Class {
        name: "only".into(),
        share: "1".parse().expect("decimal"),
        input_tokens: TokenRange { min: 4, max: 4 },
        output_tokens: TokenRange { min: 2, max: 2 },
        prefix: None,
    };
    LoadSpec::drawn(arrival, Size::Requests(requests), vec![class], 1).into()
}

fn options() -> Options {
    Options { request_timeout: Duration::from_secs(60) }
}

/// The samples of a load, in the order of the plan.
fn drive(fake: &Fake, load: &Workload, options: Options) -> Vec<RequestSample> {
    drive_watched(fake, load, options, &Arc::default())
}

/// The same, while somebody may look at its traffic.
fn drive_watched(
    fake: &Fake,
    load: &Workload,
    options: Options,
    traffic: &Arc<Traffic>,
) -> Vec<RequestSample> {
    let engine = ServerEngine {
        base_url: format!("http://{}", fake.address),
        model: "m".into(),
        vocab_size: 1_000,
        api_key_env: None,
    };
    let bodies = Bodies::new(&engine, load, Dialect::Vllm, None);
    let target = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime starts")
        .block_on(Target::resolve(&engine.base_url, bodies.path(), &load.request.headers, None))
        .expect("an address needs no resolver");
    let (samples, received) = crate::samples::channel();
    Driver::new(target, load.clone(), bodies, options, samples, Arc::clone(traffic))
        .run()
        .expect("the load runs");
    let mut samples: Vec<_> = received.iter().flatten().collect();
    let [sent, done] = [&traffic.sent, &traffic.done].map(|count| count.load(Relaxed));
    assert_eq!([sent, done], [samples.len() as u64; 2]);
    samples.sort_by_key(|sample| sample.id);
    samples
}

fn kind(sample: &RequestSample) -> &str {
    match &sample.status {
        RequestStatus::Completed => "completed",
        RequestStatus::Failed(kind) => kind,
    }
}

fn closed(concurrency: u32) -> Arrival {
    Arrival::ClosedLoop { concurrency }
}

fn constant(rate: &str) -> Arrival {
    Arrival::Constant { requests_per_second: rate.parse().expect("decimal") }
}

#[test]
fn a_good_answer_is_recorded_whole() {
    let fake = Fake::start(|_| good());
    let samples = drive(&fake, &load(closed(1), 3), options());
    assert_eq!(samples.len(), 3);
    for sample in &samples {
        assert_eq!(kind(sample), "completed");
        assert_eq!((sample.input_tokens, sample.output_tokens), (4, 2));
        assert_eq!(sample.tokens.iter().map(|(_, count)| count).sum::<u32>(), 2);
        let first_byte_ns = sample.first_byte_ns.expect("an answer came");
        let times = [sample.intended_ns, sample.sent_ns, first_byte_ns, sample.tokens[0].0];
        assert!(times.is_sorted(), "{sample:?}");
        assert!(sample.last_token_ns() <= Some(sample.end_ns), "{sample:?}");
    }
    assert_eq!(fake.connections.load(SeqCst), 1, "one connection serves one request at a time");
}

#[test]
fn a_closed_loop_keeps_its_concurrency() {
    for reader_threads in [1, 2, 5] {
        // Each answer but the last ones waits until two more requests than it have come.
        let fake = Fake::start(|n| {
            let mut steps = vec![Step::Await((n + 3).min(20))];
            steps.extend(good());
            steps
        });
        let mut load = load(closed(3), 20);
        load.spec.reader_threads = Some(reader_threads);
        let samples = drive(&fake, &load, options());
        assert!(samples.iter().all(|sample| kind(sample) == "completed"));
        assert_eq!(fake.connections.load(SeqCst), 3, "{reader_threads} readers");
    }
}

#[test]
fn every_reader_takes_its_turn_on_connections_of_its_own() {
    for reader_threads in [1, 2, 5] {
        let fake = Fake::start(|_| good());
        let mut load = load(Arrival::AllAtOnce {}, 20);
        // One after the other, so that a reader needs one connection.
        load.spec.max_concurrency = Some(1);
        load.spec.reader_threads = Some(reader_threads);
        let samples = drive(&fake, &load, options());
        assert!(samples.iter().all(|sample| kind(sample) == "completed"));
        assert_eq!(fake.connections.load(SeqCst), reader_threads as usize);
    }
}

#[test]
fn a_load_is_judged_by_the_busiest_and_by_the_latest_reader() {
    let taken = |cpu_share, p95_ms| Taken {
        cpu_share,
        event_loop_lag: Quantiles { p95_ms, ..Quantiles::default() },
    };
    let readers = [taken(0.2, 1.0), taken(0.9, 2.0), taken(0.3, 7.0), taken(0.1, 3.0)];
    for turn in 0..readers.len() {
        let mut readers = readers;
        readers.rotate_left(turn);
        let Driven { cpu_share, event_loop_lag, start_ns } = Driven::worst_of(&readers, 5);
        assert_eq!((cpu_share, event_loop_lag.p95_ms, start_ns), (0.9, 7.0, 5));
    }
}

/// Most requests that were under way at once.
fn in_flight_max(samples: &[RequestSample]) -> usize {
    let at_once = |at_ns| {
        samples.iter().filter(|sample| sample.sent_ns <= at_ns && at_ns < sample.end_ns).count()
    };
    samples.iter().map(|sample| at_once(sample.sent_ns)).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn readers_together_do_what_one_does(
        process in 0..3,
        requests in 1_u32..40,
        limit in 1_u32..6,
        is_limited: bool,
        turns in 1_u32..4,
        reader_threads in 2_u32..6,
    ) {
        let arrival = match process {
            0 => closed(limit),
            1 => constant("20000"),
            _ => Arrival::AllAtOnce {},
        };
        let mut load = load(arrival, requests);
        load.spec.max_concurrency = is_limited.then_some(limit);
        load.spec.conversation = (turns > 1).then_some(Conversation {
            turns_min: 1,
            turns_max: turns,
            think_ms_min: 0,
            think_ms_max: 1,
        });
        let mut figures = |readers| {
            load.spec.reader_threads = readers;
            // Every third request to come fails, whichever that is.
            let fake = Fake::start(|n| if n % 3 == 2 { vec![stream_head(), chunk(b"")] } else { good() });
            let samples = drive(&fake, &load, options());
            let mut summarizer = Summarizer::new(&load);
            samples.iter().for_each(|sample| summarizer.push(sample));
            let none = (ServerObservation::default(), Observed::default());
            let summary = summarizer.finish(&none.0, &none.1, "start", None).summary;
            let input: Vec<_> = samples.iter().map(|sample| (sample.id, sample.class)).collect();
            let figures = (input, summary.counts, summary.output_tokens);
            (figures, in_flight_max(&samples))
        };
        let (one, _) = figures(None);
        let (several, in_flight) = figures(Some(reader_threads));
        prop_assert_eq!(one.0.len(), requests as usize);
        prop_assert!(one.0.iter().zip(0..).all(|((id, _), number)| *id == number));
        prop_assert_eq!(one, several);
        if is_limited || process == 0 {
            prop_assert!(in_flight <= limit as usize, "{} in flight", in_flight);
        }
    }
}

#[test]
fn a_stall_is_held_by_every_request_that_was_due_in_it() {
    const STALLED: std::ops::Range<usize> = 20..60;
    // From request 20 on nothing is answered until request 60 has come: a client that waits for
    // answers would never send it.
    let fake = Fake::start(|n| {
        let mut steps =
            if STALLED.contains(&n) { vec![Step::Await(STALLED.end + 1)] } else { Vec::new() };
        steps.extend(good());
        steps
    });
    let load = load(constant("1000"), 100);
    let samples = drive(&fake, &load, options());
    assert_eq!(samples.len(), 100);
    let resumed_ns = samples[STALLED.end].intended_ns;
    for sample in &samples[STALLED] {
        assert!(sample.tokens[0].0 >= resumed_ns, "{sample:?}");
    }
    let mut summarizer = Summarizer::new(&load);
    samples.iter().for_each(|sample| summarizer.push(sample));
    let measured =
        summarizer.finish(&ServerObservation::default(), &Observed::default(), "start", None);
    let longest_ms = (resumed_ns - samples[STALLED.start].intended_ns) as f64 / 1e6;
    assert!(measured.summary.ttft.p99_ms >= longest_ms * 0.96, "{:?}", measured.summary.ttft);
}

#[test]
fn what_a_limit_in_flight_delays_is_client_queueing() {
    // With two in flight, the third request goes out when the first is answered; all three
    // were due at once.
    let fake = Fake::start(|n| {
        let mut steps = vec![Step::Await((n + 2).min(6))];
        steps.extend(good());
        steps
    });
    let mut load = load(Arrival::AllAtOnce {}, 6);
    load.spec.max_concurrency = Some(2);
    let samples = drive(&fake, &load, options());
    assert_eq!(fake.connections.load(SeqCst), 2);
    assert!(samples.iter().all(|sample| sample.intended_ns == 0 && kind(sample) == "completed"));
    let mut sent: Vec<_> = samples.iter().map(|sample| sample.sent_ns).collect();
    let mut ended: Vec<_> = samples.iter().map(|sample| sample.end_ns).collect();
    sent.sort_unstable();
    ended.sort_unstable();
    assert!(sent[2] >= ended[0] && sent[5] >= ended[3], "{sent:?} {ended:?}");
    assert_eq!(samples.iter().filter(|sample| sample.queued_ns == 0).count(), 2);
    assert!(samples.iter().all(|sample| sample.queued_ns <= sample.sent_ns));
}

#[test]
fn a_turn_is_sent_once_the_answer_before_it_has_ended() {
    // The second turn of each conversation fails, and the third is sent all the same.
    let fake = Fake::start(|n| if n == 1 { vec![stream_head(), Step::Close] } else { good() });
    let mut load = load(constant("1000"), 6);
    let think = Conversation { turns_min: 3, turns_max: 3, think_ms_min: 2, think_ms_max: 4 };
    load.spec.conversation = Some(think);
    let samples = drive(&fake, &load, options());
    assert_eq!(samples.len(), 6);
    for (sample, planned) in samples.iter().zip(Plan::new(&load)) {
        if planned.think_ns > 0 {
            let before = &samples[planned.id as usize - 1];
            assert_eq!(sample.intended_ns, before.end_ns + planned.think_ns);
        }
        assert!(sample.sent_ns >= sample.intended_ns);
    }
    assert_eq!(samples.iter().filter(|sample| kind(sample) == "completed").count(), 5);
}

#[test]
fn failures_are_counted_by_kind_and_spoil_nothing_else() {
    let answer = |steps: Vec<Step>| -> Vec<Step> {
        [stream_head(), chunk(&token(1))].into_iter().chain(steps).collect()
    };
    let status = |line: &str| {
        vec![Step::Write(format!("HTTP/1.1 {line}\r\ncontent-length: 2\r\n\r\n{{}}").into_bytes())]
    };
    let half = b"data: {\"choices\":[{\"text\":\"\xC3\",\"finish_reason\":null}]}\n\n";
    let cases: Vec<(&str, Vec<Step>)> = vec![
        ("http_429", status("429 Too Many Requests")),
        ("http_500", status("500 Internal Server Error")),
        ("http_503", status("503 Service Unavailable")),
        ("connection_reset", answer(vec![Step::Reset])),
        ("connection_closed", answer(vec![Step::Close])),
        ("connection_closed", vec![stream_head(), Step::Close]),
        ("malformed_http", vec![Step::Write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec())]),
        ("malformed_http", answer(vec![Step::Write(b"zz\r\n".to_vec())])),
        ("malformed_event", answer(vec![chunk(b"data: {\"choices\":\n\n")])),
        ("error_event", answer(vec![chunk(b"data: {\"error\":{\"code\":500}}\n\n")])),
        ("invalid_utf8", answer(vec![chunk(half)])),
        ("too_long", answer(vec![Step::WriteForever(b"4\r\nxxxx\r\n".repeat(1_000))])),
        ("truncated", answer(vec![chunk(b"")])),
        ("empty", vec![stream_head(), chunk(b"data: [DONE]\n\n"), chunk(b"")]),
        (
            "content_type",
            vec![Step::Write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi"
                    .to_vec(),
            )],
        ),
    ];
    let kinds: Vec<&str> = cases.iter().map(|(kind, _)| *kind).collect();
    let scripts: Vec<Vec<Step>> = cases.iter().map(|(_, steps)| steps.clone()).collect();
    // A good answer after each bad one.
    let fake = Fake::start(move |n| if n % 2 == 0 { scripts[n / 2].clone() } else { good() });
    let samples = drive(&fake, &load(closed(1), 2 * kinds.len() as u32), options());
    for (pair, expected) in samples.chunks_exact(2).zip(kinds) {
        assert_eq!(kind(&pair[0]), expected);
        assert_eq!(kind(&pair[1]), "completed", "after {expected}");
    }
}

#[test]
fn a_pooled_connection_that_was_closed_is_no_failure() {
    // The second request finds its connection closed and is sent again; so is the fourth, whose new
    // connection is closed as well: that is a failure.
    let fake = Fake::start(|n| if [1, 4, 5].contains(&n) { vec![Step::Close] } else { good() });
    let samples = drive(&fake, &load(closed(1), 5), options());
    let found: Vec<_> = samples.iter().map(|sample| (kind(sample), sample.resent)).collect();
    let (good, again) = (("completed", false), ("completed", true));
    assert_eq!(found, [good, again, good, ("connection_closed", true), good]);
}

#[test]
fn what_the_server_said_of_a_failure_is_kept() {
    let body = format!("{{\"error\": \"overloaded,\\n try later\"}}{}", " ".repeat(500));
    let head = format!("HTTP/1.1 503 Busy\r\ncontent-length: {}\r\n\r\n", body.len());
    let redirect = "HTTP/1.1 308 Moved\r\nlocation: https://x/v1\r\ncontent-length: 0\r\n\r\n";
    let scripts = [
        vec![Step::Write((head + &body).into_bytes())],
        vec![Step::Write(redirect.into())],
        vec![stream_head(), chunk(b"data: {\"error\":{\"code\":500}}\n\n")],
    ];
    let fake = Fake::start(move |n| scripts[n].clone());
    let samples = drive(&fake, &load(closed(1), 3), options());
    let said: Vec<_> =
        samples.iter().map(|s| (kind(s), s.failure_text.as_deref().unwrap_or("nothing"))).collect();
    assert_eq!(said[0], ("http_503", "{\"error\": \"overloaded,\\n try later\"}"));
    assert!(said[1].0 == "redirect" && said[1].1.starts_with("308 to https://x/v1"), "{said:?}");
    assert_eq!(said[2], ("error_event", "{\"error\":{\"code\":500}}"));
}

#[test]
fn a_stream_that_never_goes_on_ends_at_the_limit() {
    let fake = Fake::start(|_| vec![stream_head(), chunk(&token(1)), Step::Hang]);
    let short = Options { request_timeout: Duration::from_millis(20) };
    let samples = drive(&fake, &load(closed(2), 4), short);
    assert!(samples.iter().all(|sample| kind(sample) == "timeout"));
}

/// One stream stops after its first token until somebody has seen that it did.
#[test]
fn streams_that_stop_are_counted_as_long_as_they_do() {
    let fake = Fake::start(|n| match n {
        0 => {
            let mut steps = vec![stream_head(), chunk(&token(1)), chunk(b": and then\n\n")];
            steps.push(Step::Await(2));
            steps.extend(good().drain(2..));
            steps
        }
        _ => good(),
    });
    let traffic = Arc::<Traffic>::default();
    let (seen, address) = (Arc::clone(&traffic), fake.address);
    let patience = Duration::from_secs(30);
    let looker = std::thread::spawn(move || {
        let in_a_minute = || Instant::now() + 2 * patience;
        while seen.streams.stalled(in_a_minute(), patience) == 0 {
            if seen.done.load(Relaxed) == 2 {
                return None;
            }
            std::thread::yield_now();
        }
        let now = seen.streams.stalled(Instant::now(), patience);
        // A request more, for which the first one's answer waits.
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        std::io::Write::write_all(&mut stream, b"POST / HTTP/1.1\r\n\r\n").expect("it reads");
        Some(now)
    });
    let samples = drive_watched(&fake, &load(closed(1), 2), options(), &traffic);
    assert_eq!(looker.join().expect("it looks"), Some(0), "half a minute is not over");
    assert!(samples.iter().all(|sample| kind(sample) == "completed"));
    let later = Instant::now() + 2 * patience;
    assert_eq!(traffic.streams.stalled(later, patience), 0, "what has ended is not silent");
}

#[test]
fn nobody_listens() {
    let fake = Fake::start(|_| vec![Step::Close]);
    let address = {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        unused.local_addr().expect("bound")
    };
    let samples = drive(&Fake { address, ..fake }, &load(closed(1), 2), options());
    assert!(samples.iter().all(|sample| kind(sample) == "connection_refused"));
}

#[tokio::test]
async fn a_server_that_does_not_accept_is_no_send_lag() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("bound");
    // A backlog of one holds two that nobody accepts; a third waits for its connection.
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(tokio::net::TcpStream::connect(address).await.expect("room in the backlog"));
    }
    let url = format!("http://{address}");
    let target = Target::resolve(&url, "/", &[].into(), None).await.expect("an address");
    let (timeout, mut answer) = (Duration::from_millis(20), Answer::new(true, 1, false));
    let (times, result) = target.exchange(Bytes::new(), &mut answer, timeout).await;
    assert_eq!(result.expect_err("nobody accepts").kind, "timeout");
    assert!(times.end_ns - times.sent_ns >= timeout.as_nanos() as u64, "{times:?}");
}

#[test]
fn any_split_of_an_answer_reads_the_same() {
    let fake = Fake::start(|n| {
        let bytes: Vec<u8> = good()
            .into_iter()
            .flat_map(|step| match step {
                Step::Write(bytes) => bytes,
                _ => Vec::new(),
            })
            .collect();
        bytes.chunks(n + 1).map(|piece| Step::Write(piece.to_vec())).collect()
    });
    for sample in drive(&fake, &load(closed(1), 40), options()) {
        assert_eq!((kind(&sample), sample.output_tokens), ("completed", 2));
    }
}
