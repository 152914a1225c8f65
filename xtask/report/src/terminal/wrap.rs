//! Lines that fit a terminal.

/// Columns of a terminal: fixed, so that what is written into a file is the same everywhere.
pub const WIDTH: usize = 80;

/// The text in lines of at most so many columns (a longer word stays whole), the first one indented,
/// the others by two more; spaces inside stay as they are.
pub fn wrap(text: &str, indent: usize, width: usize) -> String {
    let mut out = String::new();
    let mut line = " ".repeat(indent);
    let mut used = indent;
    let mut is_first = true;
    for word in text.split_inclusive(' ') {
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

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_no_word_is_lost(words in prop::collection::vec("[a-zé]{1,9}", 0..30)) {
            let wrapped = wrap(&words.join(" "), 2, 20);
            prop_assert!(wrapped.lines().all(|line| line.chars().count() <= 20));
            prop_assert_eq!(wrapped.split_whitespace().collect::<Vec<_>>(), words);
        }
    }
}
