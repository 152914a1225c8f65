//! What a prefix cache could find of a load's prompts.

use std::collections::HashSet;

use super::{Plan, PlannedRequest, Workload};

/// Hit tokens over prompt tokens, in percent, in a cache of blocks that never lets go of one and finds
/// all of an earlier request: the most that a server can reach with this load. What the server generated
/// is not in it, since no later prompt of the plan holds it.
///
/// `None` of a load without requests, and of texts, whose tokens nobody knows here.
pub fn prefix_hit_percent(load: &Workload, block_size: u64, requests: usize) -> Option<f64> {
    if block_size == 0 || load.data.as_ref().is_some_and(|data| data.format.is_text()) {
        return None;
    }
    // Nothing hangs on the order of the set.
    let mut cached = HashSet::new();
    let (mut hits, mut queries) = (0_u64, 0_u64);
    for request in Plan::new(load).take(requests) {
        let input = u64::from(request.input_tokens);
        let blocks = blocks(&request, block_size);
        let found = blocks.iter().take_while(|block| cached.contains(*block)).count() as u64;
        // The last token is computed always, since the next one comes of it.
        hits += found.min(input.saturating_sub(1) / block_size) * block_size;
        queries += input;
        cached.extend(blocks);
    }
    (queries > 0).then(|| crate::hist::round(100.0 * hits as f64 / queries as f64))
}

/// A number for each full block of a prompt, made of all that comes before its end, as a server's own
/// block hashes are.
fn blocks(request: &PlannedRequest, block_size: u64) -> Vec<u64> {
    let mut blocks = Vec::with_capacity((u64::from(request.input_tokens) / block_size) as usize);
    let (mut state, mut filled) = (0, 0);
    for piece in &request.prompt {
        let (mut offset, tokens) = (0, u64::from(piece.tokens));
        while offset < tokens {
            let taken = (tokens - offset).min(block_size - filled);
            for part in [piece.source.stream(), offset, taken] {
                state = mixed(state, part);
            }
            offset += taken;
            filled += taken;
            if filled == block_size {
                blocks.push(state);
                filled = 0;
            }
        }
    }
    blocks
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn mixed(state: u64, part: u64) -> u64 {
    let mut z =
        (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(state.rotate_left(23));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
