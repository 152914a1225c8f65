//! Lines that fit a terminal.

/// Columns of a terminal: fixed, so that what is written into a file is the same everywhere.
pub const WIDTH: usize = 80;

/// Each line of the text in lines of at most [`WIDTH`] columns, indented as it was.
pub fn fold(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let indent = line.chars().take_while(|c| *c == ' ').count();
        wrap(line.trim_start_matches(' '), indent, WIDTH)
    });
    lines.collect()
}

/// The text in lines of at most so many columns, the first one indented, the others by two more;
/// spaces inside stay as they are. What would no longer be copied whole is not broken: a longer
/// word, such as a URL or a path, and code between backticks, such as a command.
pub fn wrap(text: &str, indent: usize, width: usize) -> String {
    let mut out = String::new();
    let mut line = " ".repeat(indent);
    let mut used = indent;
    let mut is_first = true;
    for word in words(text) {
        let length = word.trim_end().chars().count();
        if used + length > width && !is_first {
            out += line.trim_end();
            out.push('\n');
            line = " ".repeat(indent + 2);
            used = indent + 2;
        }
        line += word;
        used += word.chars().count();
        is_first = false;
    }
    out += line.trim_end();
    out.push('\n');
    out
}

/// What a line is broken between, each part with the space after it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut in_code = false;
        let end = rest.char_indices().find_map(|(at, c)| match c {
            // One that nothing closes is no code.
            '`' if in_code || rest[at + 1..].contains('`') => {
                in_code = !in_code;
                None
            }
            ' ' if !in_code => Some(at + 1),
            _ => None,
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("a bb ccc", 1, 6), " a bb\n   ccc\n");
        assert_eq!(wrap("  a   b", 0, 80), "  a   b\n");
        assert_eq!(wrap("", 1, 80), "\n");
        assert_eq!(wrap("longest", 1, 3), " longest\n");
    }

    #[test]
    fn what_is_copied_is_not_broken() {
        assert_eq!(wrap("run `a b c`, or d", 1, 9), " run\n   `a b c`,\n   or d\n");
        assert_eq!(wrap("a `b c", 0, 4), "a `b\n  c\n", "nothing closes it");
        let url =
            "http://gpu.example:8000/a/folder/that/is/longer/than/a/terminal/is/wide/all/in/all";
        assert_eq!(fold(&format!("see {url} there")), format!("see\n  {url}\n  there\n"));
    }

    #[test]
    fn each_line_is_folded_by_itself() {
        let long = "word ".repeat(20);
        let expected = format!(
            "a\n  {}\n    {}\n",
            "word ".repeat(15).trim_end(),
            "word ".repeat(5).trim_end()
        );
        assert_eq!(fold(&format!("a\n  {long}")), expected);
        assert_eq!(fold(""), "");
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_no_word_is_lost(words in prop::collection::vec("[a-zé]{1,9}", 0..30)) {
            let wrapped = wrap(&words.join(" "), 2, 20);
            prop_assert!(wrapped.lines().all(|line| line.chars().count() <= 20));
            prop_assert_eq!(wrapped.split_whitespace().collect::<Vec<_>>(), words);
        }
    }
}
