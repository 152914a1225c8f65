//! Prompts by whose answers a setting is held to the reference setting, and what the answers of the two
//! come to ([`judge`]). Pure: asking is `bench`'s, deciding what to ask `xtask`'s.

mod judge;

pub use judge::{Asked, Margins, judge};

use serde::Deserialize;

use crate::{
    rng::Random,
    schema::{AnswerGroup, PromptAnswer},
};

/// Number of the prompt set, part of every key: raised by hand when a prompt is changed. A test has the
/// digest of each.
pub const VERSION: u32 = 1;

static TEXTS: &str = include_str!("texts-1.txt");

/// Sums that are asked.
const SUMS: usize = 24;
/// Long contexts: their lengths in percent of the longest, and how deep the fact lies in each.
const LENGTHS_PERCENT: [u32; 3] = [25, 50, 100];
const DEPTHS_PERCENT: [u32; 6] = [2, 20, 40, 60, 80, 98];
/// Output tokens that a question with a right answer gets, and any other text.
const RIGHT_TOKENS: u32 = 12;
const OPEN_TOKENS: u32 = 16;
/// What a long context leaves free of the length it is given: the answer, special tokens.
const RESERVED_TOKENS: u32 = 32;
/// Characters of a prompt that an example shows.
const SHOWN_CHARS: usize = 60;
/// Most prompts of a user's own file.
pub const OWN_MAX: usize = 2_000;

/// One prompt with the text that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Name, unique in the set.
    pub id: String,
    /// Its kind.
    pub group: AnswerGroup,
    /// What is given to the model.
    pub context: Context,
    /// What follows: its log-probability is asked, token by token.
    pub continuation: String,
    /// Whether no other answer is right.
    pub is_exact: bool,
}

/// What is given to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// A text as it is.
    Text(String),
    /// A text of so many tokens with a fact in it, and a question after it.
    Long {
        /// Tokens of the whole, continuation included.
        tokens: u32,
        /// Where the fact lies, in percent of the text before the question.
        depth_percent: u32,
        /// By how much the filling text is turned, in percent, so that no two begin alike.
        turned_percent: u32,
        /// The fact.
        fact: String,
        /// The question.
        question: String,
    },
}

impl Prompt {
    /// How it ends and goes on, for examples.
    pub fn asked(&self) -> Asked {
        let (Context::Text(text) | Context::Long { question: text, .. }) = &self.context;
        let characters: Vec<char> = text.trim().chars().collect();
        let from = characters.len().saturating_sub(SHOWN_CHARS);
        let prompt = characters[from..].iter().collect();
        Asked { prompt, continuation: self.continuation.clone() }
    }

    /// Most tokens of the greedy answer.
    pub fn answer_tokens(&self) -> u32 {
        if self.is_exact { RIGHT_TOKENS } else { OPEN_TOKENS }
    }

    /// Whether a greedy answer is the right one; `None` where others may be as good.
    pub fn is_right(&self, answer: &str) -> Option<bool> {
        let is_right = || {
            let rest = answer.trim_start().strip_prefix(self.continuation.trim())?;
            Some(!rest.starts_with(char::is_alphanumeric))
        };
        self.is_exact.then(|| is_right().unwrap_or(false))
    }
}

/// The text that long contexts are filled with: the set's own prose.
pub fn filling() -> String {
    let prose = texts().filter(|prompt| prompt.group == AnswerGroup::Text);
    let whole = |prompt: Prompt| match prompt.context {
        Context::Text(text) => text + &prompt.continuation,
        Context::Long { .. } => String::new(),
    };
    prose.map(whole).collect::<Vec<_>>().join("\n\n")
}

/// The token ids of a long context, of what it is made of: `filling` is repeated as often as needed.
pub fn long_tokens(
    context: &Context,
    filling: &[u32],
    fact: &[u32],
    question: &[u32],
    continuation: usize,
) -> Vec<u32> {
    let Context::Long { tokens, depth_percent, turned_percent, .. } = context else {
        return Vec::new();
    };
    let taken = fact.len() + question.len() + continuation + RESERVED_TOKENS as usize;
    let filled = (*tokens as usize).saturating_sub(taken);
    let turned = filling.len() * *turned_percent as usize / 100;
    let mut text = filling.iter().cycle().skip(turned).take(filled).copied();
    let before = filled * *depth_percent as usize / 100;
    let mut whole: Vec<u32> = text.by_ref().take(before).collect();
    whole.extend(fact);
    whole.extend(text);
    whole.extend(question);
    whole
}

/// The set: texts, code, languages, facts, sums, and facts to find in up to so many tokens.
pub fn prompts(context_tokens: u32) -> Vec<Prompt> {
    texts().chain(sums()).chain(long(context_tokens)).collect()
}

fn texts() -> impl Iterator<Item = Prompt> {
    let mut counts = [0_u32; AnswerGroup::ALL.len()];
    TEXTS.split("== ").skip(1).filter_map(move |part| {
        let (group, text) = part.split_once('\n')?;
        let group = AnswerGroup::ALL.into_iter().find(|known| known.name() == group.trim())?;
        let (context, continuation) = text.trim_end().split_once('|')?;
        let count = &mut counts[group as usize];
        *count += 1;
        Some(Prompt {
            id: format!("{}-{count}", group.name()),
            group,
            context: Context::Text(context.trim_end_matches(' ').to_owned()),
            continuation: continuation.to_owned(),
            is_exact: group == AnswerGroup::Fact,
        })
    })
}

fn sums() -> impl Iterator<Item = Prompt> {
    let mut random = Random::new(VERSION.into(), 1);
    (0..SUMS).map(move |number| {
        let mut sum = || {
            let (a, b) = (random.between(2, 49), random.between(2, 49));
            match number % 3 {
                0 => (format!("{a} + {b} ="), a + b),
                1 => (format!("{} - {a} =", a + b), b),
                _ => (format!("{} * {} =", a % 10, b % 10), (a % 10) * (b % 10)),
            }
        };
        let shown: Vec<String> =
            (0..4).map(|_| sum()).map(|(asked, result)| format!("{asked} {result}\n")).collect();
        let (asked, result) = sum();
        Prompt {
            id: format!("arithmetic-{}", number + 1),
            group: AnswerGroup::Arithmetic,
            context: Context::Text(shown.concat() + &asked),
            continuation: format!(" {result}"),
            is_exact: true,
        }
    })
}

fn long(context_tokens: u32) -> impl Iterator<Item = Prompt> {
    const NAMES: [&str; 6] = ["Anna", "Peter", "Laura", "David", "Clara", "Thomas"];
    let mut random = Random::new(VERSION.into(), 2);
    let all = LENGTHS_PERCENT.into_iter().flat_map(|l| DEPTHS_PERCENT.map(|d| (l, d)));
    all.zip(0_u32..).map(move |((length, depth), number)| {
        let name = NAMES[number as usize % NAMES.len()];
        let secret = random.between(10_000, 99_999);
        Prompt {
            id: format!("long-{length}-{depth}"),
            group: AnswerGroup::Long,
            context: Context::Long {
                tokens: (u64::from(context_tokens) * u64::from(length) / 100) as u32,
                depth_percent: depth,
                turned_percent: number * 5,
                fact: format!("\n\nThe secret number of {name} is {secret}.\n\n"),
                question: format!(
                    "\n\nQuestion: What is the secret number of {name}?\nAnswer: The secret number of \
                     {name} is"
                ),
            },
            continuation: format!(" {secret}"),
            is_exact: true,
        }
    })
}

/// A line of a user's own file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnLine {
    prompt: String,
    continuation: String,
    #[serde(default)]
    exact: bool,
}

/// A user's own prompts: a JSON object a line, with `prompt`, `continuation` and perhaps `exact`.
///
/// # Errors
/// What is wrong, with the number of the line.
pub fn own_prompts(text: &str) -> Result<Vec<Prompt>, String> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let prompt = |(line, number): (&str, usize)| {
        let line: OwnLine =
            serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
        if line.prompt.is_empty() || line.continuation.trim().is_empty() {
            return Err(format!("line {number}: `prompt` or `continuation` is empty"));
        }
        Ok(Prompt {
            id: format!("own-{number}"),
            group: AnswerGroup::Own,
            context: Context::Text(line.prompt),
            continuation: line.continuation,
            is_exact: line.exact,
        })
    };
    let prompts: Vec<Prompt> = lines.map(prompt).collect::<Result<_, _>>()?;
    match prompts.len() {
        0 => Err("there is no prompt in it".to_owned()),
        1..=OWN_MAX => Ok(prompts),
        n => Err(format!("{n} prompts; at most {OWN_MAX}")),
    }
}

/// The record of one prompt. What a user's own prompts were answered stays out of it: records travel.
pub fn record(prompt: &Prompt, tokens: u32, nll: f64, top: Vec<u32>, answer: &str) -> PromptAnswer {
    let is_own = prompt.group == AnswerGroup::Own;
    PromptAnswer {
        id: prompt.id.clone(),
        group: prompt.group,
        tokens,
        nll,
        top: if is_own { Vec::new() } else { top },
        right: prompt.is_right(answer),
        answer: (!is_own).then(|| answer.to_owned()),
        digest: is_own.then(|| crate::canonical::Digest::of(answer.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::Digest;

    /// Whoever changes a prompt raises [`VERSION`] and notes the new digest here.
    #[test]
    fn the_set_of_a_version_stays_as_it_is() {
        let digest = Digest::of(format!("{:?}", prompts(2048)).as_bytes());
        assert_eq!((VERSION, digest.short()), (1, "bd56584dc43a".to_owned()));
    }

    #[test]
    fn every_prompt_has_a_name_of_its_own_and_something_to_say() {
        let all = prompts(2048);
        let names: std::collections::BTreeSet<_> = all.iter().map(|prompt| &prompt.id).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|prompt| !prompt.continuation.trim().is_empty()));
        let of = |group| all.iter().filter(|prompt| prompt.group == group).count();
        let counts = AnswerGroup::ALL.map(of);
        assert_eq!(counts, [20, 10, 12, 24, 24, 18, 0]);
        let exact = all.iter().filter(|prompt| prompt.is_exact).count();
        assert_eq!(exact, 24 + 24 + 18);
    }

    #[test]
    fn a_right_answer_begins_with_the_continuation_and_ends_there() {
        let sum = sums().next().expect("a sum");
        let right = sum.continuation.trim().to_owned();
        assert_eq!(sum.is_right(&format!(" {right}\n1 + 1 =")), Some(true));
        assert_eq!(sum.is_right(&format!(" {right}0")), Some(false));
        assert_eq!(sum.is_right(""), Some(false));
        assert_eq!(texts().next().expect("a text").is_right("anything"), None);
    }

    #[test]
    fn a_long_context_has_its_length_and_its_fact_at_its_depth() {
        let filling: Vec<u32> = (0..100).collect();
        let prompt = long(1_000).find(|prompt| prompt.id == "long-50-20").expect("there");
        let (fact, question) = ([777, 778], [888]);
        let tokens = long_tokens(&prompt.context, &filling, &fact, &question, 3);
        assert_eq!(tokens.len() + 3 + RESERVED_TOKENS as usize, 500);
        let at = tokens.iter().position(|id| *id == 777).expect("the fact");
        assert_eq!(at, (500 - 3 - 2 - 1 - RESERVED_TOKENS as usize) * 20 / 100);
        assert_eq!(tokens.last(), Some(&888));
    }

    #[test]
    fn own_prompts_are_read_and_their_mistakes_named() {
        let read = own_prompts(
            "{\"prompt\": \"a\", \"continuation\": \" b\", \"exact\": true}\n\n{\"prompt\": \"c\", \
             \"continuation\": \" d\"}\n",
        )
        .expect("two prompts");
        assert_eq!((read[0].is_exact, read[1].id.as_str()), (true, "own-3"));
        assert_eq!(own_prompts("").expect_err("none"), "there is no prompt in it");
        let slip = own_prompts("{\"prompt\": \"a\"}").expect_err("a slip");
        assert!(slip.starts_with("line 1: missing field `continuation`"), "{slip}");
    }

    #[test]
    fn what_own_prompts_were_answered_is_not_in_the_record() {
        let own = own_prompts("{\"prompt\": \"a\", \"continuation\": \"secret\"}").expect("one");
        let text = serde_json::to_string(&record(&own[0], 1, 2.0, vec![3], "secret, too"));
        assert!(!text.expect("JSON").contains("secret"));
    }
}
