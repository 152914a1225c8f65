use proptest::prelude::*;
use serde_json::json;

use super::*;

fn rows(format: DataFormat, text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    match read(format, text.as_bytes(), &mut |row| rows.push(row)) {
        Ok(digest) => {
            assert_eq!(digest, Digest::of(text.as_bytes()));
            Ok(rows)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn text(text: &str, output_tokens: Option<u32>) -> Row {
    text_row(text.into(), output_tokens).expect("a text")
}

#[test]
fn a_trace_is_read() {
    let trace = "{\"timestamp\": 0, \"input_length\": 700, \"output_length\": 5, \"hash_ids\": [7, 8]}\n\n\
                 {\"timestamp\":1.5,\"input_length\":3,\"output_length\":1}";
    let rows = rows(DataFormat::Mooncake, trace).expect("a trace");
    assert_eq!((rows[0].at_ns, rows[1].at_ns), (0, 1_500_000));
    assert_eq!((rows[0].input_tokens, rows[0].output_tokens), (700, Some(5)));
    assert_eq!(rows[0].prompt, RowPrompt::Blocks { tokens: BLOCK_TOKENS, names: [7, 8].into() });
    assert_eq!(rows[1].prompt, RowPrompt::Blocks { tokens: BLOCK_TOKENS, names: [].into() });
}

#[test]
fn custom_prompts_are_read() {
    let lines = "{\"prompt\":\"four\"}\r\n{\"prompt\":\"fives\",\"output_tokens\":9,\"x\":[]}\n";
    let rows = rows(DataFormat::Custom, lines).expect("prompts");
    assert_eq!(rows, [text("four", None), text("fives", Some(9))]);
    assert_eq!((rows[0].input_tokens, rows[1].input_tokens), (1, 2));
}

#[test]
fn share_gpt_is_a_list_or_lines() {
    let one = json!({"id": "a", "conversations": [
        {"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi, you"}, {"from": "human", "value": "x"},
    ]});
    let short = json!({"conversations": [{"from": "human", "value": "nobody answers"}]});
    let expected = vec![text("hello", Some(2)), text("hello", Some(2))];
    let list = format!(" \n[{one},\n{short},{one}]\n");
    assert_eq!(rows(DataFormat::ShareGpt, &list), Ok(expected.clone()));
    assert_eq!(rows(DataFormat::ShareGpt, &format!("{one}\n{short}\n{one}")), Ok(expected));
}

#[test]
fn mistakes_have_their_line() {
    let good = "{\"timestamp\":9,\"input_length\":3,\"output_length\":1}";
    let mut found = String::new();
    for (format, bad) in [
        (DataFormat::Mooncake, "{\"timestamp\":5,\"input_length\":3,\"output_length\":1}"),
        (DataFormat::Mooncake, "{\"timestamp\":10,\"input_length\":0,\"output_length\":1}"),
        (DataFormat::Mooncake, "{\"timestamp\":10,\"input_length\":3}"),
        (DataFormat::Mooncake, "{\"timestamp\":1e300,\"input_length\":3,\"output_length\":1}"),
        (DataFormat::Mooncake, "{\"timestamp\":10,\"input_length\":3,\"output_length\":-1}"),
        (DataFormat::Mooncake, "timestamp,input_length"),
        (DataFormat::Mooncake, "\u{fffd}"),
    ] {
        found += &rows(format, &format!("{good}\n\n{bad}\n")).expect_err(bad);
        found.push('\n');
    }
    for (format, bad) in [
        (DataFormat::Custom, "{\"prompt\":\"a\"}\n{\"prompt\":\"\"}"),
        (DataFormat::Custom, "{\"prompt\":\"a\"}\n{\"text\":\"a\"}"),
        (DataFormat::Custom, "{\"prompt\":\"a\",\"output_tokens\":0}"),
        (DataFormat::ShareGpt, "[{\"conversations\":[]},\n{\"messages\":[]}]"),
        (DataFormat::ShareGpt, "[{\"conversations\":[]}"),
        (DataFormat::ShareGpt, "[] []"),
        (DataFormat::ShareGpt, "{\"conversations\":[]}\n{\"conversations\":{}}"),
    ] {
        found += &rows(format, bad).expect_err(bad);
        found.push('\n');
    }
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(found); });
}

/// Lines without end, so that only a reader that stops comes to its own end.
#[test]
fn an_endless_line_is_refused() {
    let error = read(DataFormat::Custom, io::repeat(b'x'), &mut |_| {}).expect_err("endless");
    assert_eq!(error.line, Some(1));
}

/// A file that is made while it is read: nothing but the reader could hold it.
#[test]
fn a_million_lines_are_handed_over_one_by_one() {
    struct Lines(usize);
    impl Read for Lines {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let line =
                b"{\"timestamp\":1,\"input_length\":3,\"output_length\":1,\"hash_ids\":[1]}\n";
            let Some(left) = self.0.checked_sub(1) else { return Ok(0) };
            self.0 = left;
            buffer[..line.len()].copy_from_slice(line);
            Ok(line.len())
        }
    }
    let mut count = 0;
    read(DataFormat::Mooncake, Lines(1_000_000), &mut |_| count += 1).expect("a trace");
    assert_eq!(count, 1_000_000);
}

fn row() -> impl Strategy<Value = (u32, u32, u32, Vec<u64>)> {
    (0..1_000_u32, 1..5_000_u32, 1..5_000_u32, prop::collection::vec(any::<u64>(), 0..12))
}

proptest! {
    #[test]
    fn what_is_written_is_read(rows in prop::collection::vec(row(), 0..20)) {
        let (mut at_ms, mut text, mut expected) = (0_u64, String::new(), Vec::new());
        for (gap_ms, input, output, blocks) in rows {
            at_ms += u64::from(gap_ms);
            let line = json!({
                "timestamp": at_ms, "input_length": input, "output_length": output, "hash_ids": blocks,
            });
            text += &format!("{line}\n");
            expected.push(Row {
                at_ns: at_ms * 1_000_000,
                input_tokens: input,
                output_tokens: Some(output),
                prompt: RowPrompt::Blocks { tokens: BLOCK_TOKENS, names: blocks.into() },
                turn: None,
            });
        }
        prop_assert_eq!(super::tests::rows(DataFormat::Mooncake, &text), Ok(expected));
    }

    #[test]
    fn texts_survive_as_they_are(prompts in prop::collection::vec("\\PC{1,30}", 1..8), list in any::<bool>()) {
        let conversation = |prompt| json!({"conversations": [
            {"from": "human", "value": prompt}, {"from": "gpt", "value": "answer"},
        ]}).to_string();
        let all: Vec<String> = prompts.iter().map(conversation).collect();
        let source = if list { format!("[{}]", all.join(",\n")) } else { all.join("\n") };
        let expected: Vec<Row> = prompts.iter().map(|prompt| text(prompt, Some(2))).collect();
        prop_assert_eq!(rows(DataFormat::ShareGpt, &source), Ok(expected));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let good = b"[{\"conversations\":[{\"from\":\"a\",\"value\":\"b\"},{\"from\":\"c\",\"value\":\"d\"}]}]";
        let mut mixed = good.to_vec();
        mixed.splice(cut.index(good.len()).., bytes.iter().copied());
        for format in [DataFormat::Mooncake, DataFormat::Custom, DataFormat::ShareGpt] {
            for source in [&bytes, &mixed] {
                if let Err(error) = read(format, &**source, &mut |_| {}) {
                    prop_assert!(error.line.is_some_and(|line| line >= 1), "{error:?}");
                }
            }
        }
    }
}

/// Two sessions of an agent, the first with a call of another one in between.
pub(crate) const SESSIONS: &str = concat!(
    r#"{"id":"a","block_size":64,"hash_id_scope":"local","tool_tokens":9,"requests":["#,
    r#"{"t":0,"type":"n","in":130,"out":5,"hash_ids":[1,2,3],"api_time":2},"#,
    r#"{"t":3,"type":"subagent","requests":[{"t":0,"type":"s","in":64,"out":0,"hash_ids":[9],"think_time":0.5}]},"#,
    r#"{"t":10,"type":"n","in":200,"out":7,"hash_ids":[1,2,4,5],"api_time":1}]}"#,
    "\n",
    r#"{"id":"b","block_size":64,"requests":[{"t":5,"in":70,"out":2,"hash_ids":[1,2]}]}"#,
    "\n",
);

#[test]
fn sessions_of_agents_are_conversations() {
    let rows = rows(DataFormat::Weka, SESSIONS).expect("sessions");
    let turns: Vec<_> = rows.iter().map(|row| row.turn.expect("a turn")).collect();
    let found: Vec<_> = turns.iter().map(|turn| (turn.conversation, turn.think_ns)).collect();
    assert_eq!(found, [(0, 0), (0, 500_000_000), (0, 10_000_000_000), (1, 0)]);
    let lengths: Vec<_> = rows.iter().map(|row| (row.input_tokens, row.output_tokens)).collect();
    assert_eq!(lengths, [(130, Some(5)), (64, Some(1)), (200, Some(7)), (70, Some(2))]);
    let names = |i: usize| match &rows[i].prompt {
        RowPrompt::Blocks { tokens: 64, names } => names.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(names(0)[..2], names(2)[..2], "a session keeps its prefix");
    assert_ne!(names(0)[0], names(3)[0], "names are those of a session");
    for wrong in [
        r#"{"block_size":0,"requests":[]}"#,
        r#"{"block_size":64,"requests":[{"t":0,"in":0,"out":1}]}"#,
        r#"{"block_size":64}"#,
    ] {
        assert!(self::rows(DataFormat::Weka, wrong).is_err(), "{wrong}");
    }
}
