//! Prompts of token ids, drawn so that no two requests share a prefix by chance.

use crate::{
    canonical::Digest,
    rng::Random,
    schema::LoadSpec,
    workload::{Piece, PlannedRequest},
};

/// Vocabularies larger than this lose their first [`SPECIAL_TOKENS`] ids, where tokenizers keep
/// tokens such as begin and end of sequence.
const VOCABULARY_MIN: u32 = 1_000;
const SPECIAL_TOKENS: u32 = 100;

/// Draws the prompts of one load. They depend on the whole load, so that two loads on one server
/// do not meet in its prefix cache.
#[derive(Clone, Copy, Debug)]
pub struct Prompts {
    seed: u64,
    first: u32,
    last: u32,
}

impl Prompts {
    /// For a load and ids of `0..vocab_size`.
    pub fn new(load: &LoadSpec, vocab_size: u32) -> Self {
        // A load is part of keys and holds no floats, so it has a digest.
        let seed = Digest::of_json(load).expect("a load has canonical JSON").seed();
        let first = if vocab_size > VOCABULARY_MIN { SPECIAL_TOKENS } else { 0 };
        Self { seed, first, last: vocab_size.max(1) - 1 }
    }

    /// The token ids of a request's prompt.
    pub fn draw(&self, request: &PlannedRequest) -> impl Iterator<Item = u32> {
        request.prompt.iter().flat_map(|piece| self.piece(*piece))
    }

    /// The token ids of a part of a prompt.
    pub fn piece(&self, piece: Piece) -> impl Iterator<Item = u32> + use<> {
        let Self { seed, first, last } = *self;
        let mut random = Random::new(seed, piece.source.stream());
        (0..piece.tokens).map(move |_| random.between(first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        schema::{Arrival, Class, Prefix, Size, TokenRange},
        workload::Source,
    };

    fn load(seed: u64) -> LoadSpec {
        let class = Class {
            name: "only".into(),
            share: "1".parse().expect("decimal"),
            input_tokens: TokenRange { min: 40, max: 40 },
            output_tokens: TokenRange { min: 1, max: 1 },
            prefix: Some(Prefix { groups: 2, tokens: 8 }),
        };
        LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(8), vec![class], seed)
    }

    fn prompt(load: &LoadSpec, id: u32, group: u32) -> Vec<u32> {
        let request = PlannedRequest {
            id,
            at_ns: None,
            think_ns: 0,
            class: 0,
            input_tokens: 48,
            output_tokens: 1,
            prompt: vec![
                Piece { source: Source::Prefix(group), tokens: 8 },
                Piece { source: Source::Ask(id), tokens: 40 },
            ],
        };
        Prompts::new(load, 32_000).draw(&request).collect()
    }

    #[test]
    fn a_group_shares_its_prefix_and_nothing_else() {
        let load = load(1);
        let (a, b, c) = (prompt(&load, 0, 0), prompt(&load, 1, 0), prompt(&load, 2, 1));
        assert_eq!(a.len(), 48);
        assert_eq!(a[..8], b[..8]);
        assert_ne!(a[8..], b[8..]);
        assert_ne!(a[..8], c[..8]);
        assert!(a.iter().all(|id| (100..32_000).contains(id)));
    }

    #[test]
    fn loads_do_not_share_prompts() {
        assert_ne!(prompt(&load(1), 0, 0), prompt(&load(2), 0, 0));
        assert_eq!(prompt(&load(1), 0, 0), prompt(&load(1), 0, 0));
    }
}
