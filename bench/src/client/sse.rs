//! Server-sent events, from any split of the bytes (WHATWG HTML, section 9.2.6).
//!
//! Only `data` is kept: event names, ids and retry times mean nothing in the OpenAI API.

/// Longest line, and longest data of one event, in bytes.
pub(crate) const EVENT_BYTES_MAX: usize = 1 << 20;

/// A line or an event is longer than [`EVENT_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Finds events in a stream of bytes; holds at most one unfinished line and one unfinished event.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Start of a line whose end has not come.
    line: Vec<u8>,
    /// Data lines of the event at hand, each with a line feed after it.
    data: Vec<u8>,
    /// The last line ended in a carriage return: a line feed that follows belongs to it.
    after_carriage_return: bool,
    /// The first line has been read; a byte order mark may stand before it alone.
    started: bool,
}

impl Parser {
    /// Takes the next bytes and calls `on_event` with the data of each event that they complete.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        mut on_event: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        if !bytes.is_empty() && std::mem::take(&mut self.after_carriage_return) {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (head, tail) = bytes.split_at(end);
            if !self.line.is_empty() {
                append(&mut self.line, head)?;
                let mut line = std::mem::take(&mut self.line);
                self.take_line(&line, &mut on_event)?;
                line.clear();
                self.line = line;
            } else if tail.starts_with(b"\n\n")
                && self.data.is_empty()
                && let Some(value) = head.strip_prefix(b"data: ")
            {
                // The common event, one line and then an empty one, is not copied.
                self.started = true;
                if value.len() > EVENT_BYTES_MAX {
                    return Err(TooLong);
                }
                on_event(value);
                bytes = &tail[2..];
                continue;
            } else {
                self.take_line(head, &mut on_event)?;
            }
            bytes = match tail {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_carriage_return = true;
                    return Ok(());
                }
                _ => &tail[1..],
            };
        }
        append(&mut self.line, bytes)
    }

    fn take_line(&mut self, line: &[u8], on_event: &mut impl FnMut(&[u8])) -> Result<(), TooLong> {
        let first = !std::mem::replace(&mut self.started, true);
        let line = if first { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line };
        if line.is_empty() {
            if let Some((_, data)) = self.data.split_last() {
                on_event(data);
            }
            self.data.clear();
        } else if line == b"data" {
            append(&mut self.data, b"\n")?;
        } else if let Some(value) = line.strip_prefix(b"data:") {
            append(&mut self.data, value.strip_prefix(b" ").unwrap_or(value))?;
            append(&mut self.data, b"\n")?;
        }
        Ok(())
    }
}

fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TooLong> {
    if buffer.len() + bytes.len() > EVENT_BYTES_MAX + 1 {
        return Err(TooLong);
    }
    buffer.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser
                .push(piece, |data| events.push(String::from_utf8_lossy(data).into_owned()))
                .expect("short lines");
        }
        events
    }

    /// The definition, word for word, on the whole text at once.
    fn reference(text: &str) -> Vec<String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let Some((whole, _unfinished)) = text.rsplit_once('\n') else { return Vec::new() };
        let (mut events, mut data) = (Vec::new(), None::<String>);
        for line in whole.split('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            if line.is_empty() {
                events.extend(data.take());
            } else if field == "data" {
                let value = value.strip_prefix(' ').unwrap_or(value);
                data = Some(data.map_or_else(|| value.to_owned(), |d| format!("{d}\n{value}")));
            }
        }
        events
    }

    #[test]
    fn an_event_cut_right_after_its_field_name_is_kept() {
        assert_eq!(events(&[b"data:", b" a\n", b"\n"]), ["a"]);
    }

    #[test]
    fn a_line_end_may_be_cut_in_two() {
        assert_eq!(events(&[b"data: a\r", b"", b"\ndata: b\r", b"\n\r", b"\n"]), ["a\nb"]);
    }

    #[test]
    fn comments_other_fields_and_unfinished_events_yield_nothing() {
        let text = b": ping\n\nevent: x\nid: 3\ndata: a\nretry: 5\ndata:b\n\ndata: unfinished\n";
        assert_eq!(events(&[text]), ["a\nb"]);
    }

    #[test]
    fn an_endless_line_is_refused_in_bounded_memory() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 100_000];
        let refused = (0..100).position(|_| parser.push(&piece, |_| {}).is_err());
        assert_eq!(refused, Some(10));
        assert!(parser.line.capacity() <= 2 * EVENT_BYTES_MAX);
    }

    #[test]
    fn endless_data_lines_are_refused() {
        let mut parser = Parser::default();
        let piece = b"data: x\n".repeat(10_000);
        assert!((0..100).any(|_| parser.push(&piece, |_| {}).is_err()));
    }

    fn text() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            Just(String::new()),
            Just("data".to_owned()),
            "data: ?[a-c:é ]{0,6}",
            "[:a-d ]{0,6}",
        ];
        let end = prop_oneof![3 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r")];
        let lines = prop::collection::vec((line, end), 0..12);
        (any::<bool>(), lines).prop_map(|(mark, lines)| {
            let lines = lines.into_iter().map(|(line, end)| line + end);
            std::iter::once(if mark { "\u{feff}".to_owned() } else { String::new() })
                .chain(lines)
                .collect()
        })
    }

    proptest! {
        #[test]
        fn any_split_yields_what_the_definition_says(
            text in text(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(events(&pieces), reference(&text));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parser::default().push(&bytes, |_| {});
        }
    }
}
