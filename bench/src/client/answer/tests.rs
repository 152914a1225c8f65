use proptest::prelude::*;

use super::*;

/// Feeds one event a millisecond.
fn read(events: &[&str]) -> (Reading, Result<(), Fault>) {
    let mut answer = Answer::new(true, 100, false);
    for (at_ms, event) in events.iter().enumerate() {
        let pushed = answer.push(format!("data: {event}\n\n").as_bytes(), at_ms as u64);
        if let Err(fault) = pushed {
            return (answer.finish().0, Err(fault));
        }
    }
    answer.finish()
}

fn text(text: &str, reason: &str, usage: &str) -> String {
    format!(
        r#"{{"id":"cmpl-1","object":"text_completion","created":1764000000,"model":"m","choices":[{{"index":0,"text":"{text}","logprobs":null,"finish_reason":{reason},"stop_reason":null}}]{usage}}}"#
    )
}

fn by_now(tokens: u32) -> String {
    format!(
        r#","usage":{{"prompt_tokens":7,"total_tokens":{},"completion_tokens":{tokens}}}"#,
        tokens + 7
    )
}

const USAGE_5: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":7,"total_tokens":12,"completion_tokens":5}}"#;

#[test]
fn exact_counts_are_taken_from_each_event() {
    let events = [
        text(" a", "null", &by_now(1)),
        text(" b", "null", &by_now(3)),
        text("", "null", &by_now(4)),
        text(" d", "\"length\"", &by_now(5)),
    ];
    let [a, b, c, d] = &events;
    let (reading, outcome) = read(&[a, b, c, d, USAGE_5, "[DONE]"]);
    assert_eq!(outcome, Ok(()));
    assert_eq!(reading.tokens, [(0, 1), (1, 2), (2, 1), (3, 1)]);
    assert_eq!((reading.input_tokens, reading.output_tokens), (7, 5));
}

#[test]
fn a_total_is_spread_where_events_do_not_count() {
    let (a, b, end) =
        (text(" a b", "null", ""), text(" c d", "null", ""), text("", "\"stop\"", ""));
    let (reading, outcome) = read(&[&a, &b, &end, USAGE_5, "[DONE]"]);
    assert_eq!(outcome, Ok(()));
    assert_eq!(reading.tokens, [(0, 3), (1, 2)]);
    assert_eq!((reading.output_tokens, reading.is_spread), (5, true));
}

#[test]
fn without_usage_an_event_with_text_is_a_token() {
    let (a, b, end) = (text(" a", "null", ""), text("", "null", ""), text("", "\"stop\"", ""));
    let (reading, outcome) = read(&[&a, &b, &end]);
    assert_eq!(outcome, Ok(()), "a missing [DONE] is no fault after a reason to finish");
    assert_eq!(reading.tokens, [(0, 1), (1, 1)]);
}

#[test]
fn a_role_is_not_a_token() {
    let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    let word = r#"{"choices":[{"index":0,"delta":{"content":" a"},"finish_reason":null}]}"#;
    let thought = r#"{"choices":[{"index":0,"delta":{"reasoning":" b"},"finish_reason":null}]}"#;
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let (reading, outcome) = read(&[role, word, word, thought, end, "[DONE]"]);
    assert_eq!(outcome, Ok(()));
    assert_eq!(reading.tokens, [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn tokens_of_one_read_arrive_together() {
    let mut answer = Answer::new(true, 100, false);
    let events: String =
        (1..=3).map(|n| format!("data: {}\n\n", text(" a", "null", &by_now(n)))).collect();
    answer.push(events.as_bytes(), 4).expect("well formed");
    answer.push(b"data: [DONE]\n\n", 5).expect("well formed");
    assert_eq!(answer.finish().0.tokens, [(4, 3)]);
}

#[test]
fn the_servers_phases_are_read() {
    let (a, end) = (
        text(" a", "\"length\"", ""),
        r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":1},"metrics":{"queue_time_ms":1.5,"time_to_first_token_ms":20.0,"generation_time_ms":0.0,"mean_itl_ms":null}}"#,
    );
    let phases = Phases { queue_ns: 1_500_000, prefill_ns: 20_000_000, decode_ns: 0 };
    assert_eq!(read(&[&a, end, "[DONE]"]).0.phases, Some(phases));
}

#[test]
fn faults_have_kinds() {
    let a = text(" a", "null", &by_now(1));
    let far_too_many = text(" a", "null", &by_now(9_999));
    for (events, fault) in [
        (vec!["{", "[DONE]"], Fault::MalformedEvent),
        (vec!["[]"], Fault::MalformedEvent),
        (vec!["{}"], Fault::MalformedEvent),
        (vec![&a[..a.len() - 1]], Fault::MalformedEvent),
        (vec![&*a, &a[..a.len() - 1]], Fault::MalformedEvent),
        (vec![&*a, r#"{"error":{"message":"x","code":400}}"#, "[DONE]"], Fault::ErrorEvent),
        (vec![r#"{"object":"error","message":"x"}"#], Fault::ErrorEvent),
        (vec![&*a, &far_too_many], Fault::TooManyTokens),
        (vec![&*a], Fault::Truncated),
        (vec!["[DONE]"], Fault::Empty),
        (vec![], Fault::Truncated),
    ] {
        assert_eq!(read(&events).1, Err(fault), "{events:?}");
    }
}

#[test]
fn an_answer_that_the_server_gave_up_or_cut_has_failed() {
    let (a, b) = (text(" a", "null", ""), text("", "\"length\"", ""));
    let abort = text("", "\"abort\"", "");
    assert_eq!(read(&[&a, &abort, "[DONE]"]).1, Err(Fault::Aborted));
    let exact = |wanted: u32, events: &[&str]| {
        let mut answer = Answer::new(true, wanted, true);
        for event in events {
            answer.push(format!("data: {event}\n\n").as_bytes(), 0).expect("well formed");
        }
        answer.finish().1
    };
    assert_eq!(exact(5, &[&a, &b, USAGE_5, "[DONE]"]), Ok(()));
    assert_eq!(exact(6, &[&a, &b, USAGE_5, "[DONE]"]), Err(Fault::Short));
    // Without a count by the server nobody knows how many tokens an event held.
    assert_eq!(exact(6, &[&a, &b, "[DONE]"]), Ok(()));
}

#[test]
fn what_stands_in_a_faulty_event_is_kept() {
    let (reading, outcome) = read(&[r#"{"error":{"message":"no  memory"}}"#]);
    assert_eq!(outcome, Err(Fault::ErrorEvent));
    assert_eq!(reading.fault_text.as_deref(), Some(r#"{"error":{"message":"no memory"}}"#));
}

#[test]
fn half_a_character_is_a_fault_even_in_a_known_shape() {
    let event = format!("data: {}\n\n", text("é", "null", ""));
    let mut cut = event.clone().into_bytes();
    cut.retain(|byte| *byte != 0xA9);
    let mut answer = Answer::new(true, 100, false);
    answer.push(event.as_bytes(), 0).expect("well formed");
    assert_eq!(answer.push(&cut, 1), Err(Fault::InvalidUtf8));
}

#[test]
fn an_answer_that_is_not_streamed_has_totals_only() {
    let mut answer = Answer::new(false, 100, false);
    let body = format!("{{{}}}", &text(" a", "\"length\"", &by_now(5))[1..].trim_end_matches('}'));
    let body = body + "}";
    for piece in body.as_bytes().chunks(7) {
        answer.push(piece, 1).expect("short");
    }
    let (reading, outcome) = answer.finish();
    assert_eq!(outcome, Ok(()));
    assert_eq!((reading.tokens.len(), reading.input_tokens, reading.output_tokens), (0, 7, 5));
}

proptest! {
    #[test]
    fn the_split_of_bytes_does_not_matter(
        steps in prop::collection::vec((0_u32..4, "[a-zé\"\\\\]{0,3}"), 1..20),
        exact in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut total = 0;
        let mut bytes = String::new();
        for (tokens, word) in &steps {
            total += tokens;
            let word = serde_json::Value::from(word.as_str()).to_string();
            let usage = if exact { by_now(total) } else { String::new() };
            bytes += &format!("data: {}\n\n", text(&word[1..word.len() - 1], "null", &usage));
        }
        bytes += "data: [DONE]\n\n";
        let bytes = bytes.as_bytes();
        let mut whole = Answer::new(true, 100, false);
        whole.push(bytes, 0).expect("well formed");
        let mut pieces = Answer::new(true, 100, false);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push(&bytes[from..cut], 0).expect("well formed");
            from = cut;
        }
        let (whole, pieces) = (whole.finish(), pieces.finish());
        prop_assert_eq!(&whole, &pieces);
        if exact {
            prop_assert_eq!(whole.0.output_tokens, total);
        }
        let counted: u32 = whole.0.tokens.iter().map(|(_, count)| count).sum();
        prop_assert_eq!(counted, whole.0.output_tokens);
    }
}

/// What failed is told in words, not by a name alone.
#[test]
fn faults_without_a_text_have_a_meaning() {
    for fault in [Fault::Truncated, Fault::Empty, Fault::TooLong, Fault::TooManyTokens] {
        assert!(meaning(fault.name()).is_some(), "{fault:?}");
    }
    assert_eq!(meaning("http_500"), None);
}
