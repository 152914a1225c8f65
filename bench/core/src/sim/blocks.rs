//! The pool of KV cache blocks, as in vLLM's `v1/core/block_pool.py`.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Number of a block.
pub type BlockId = u32;

/// Hash of a full block: of its tokens and of all that come before them.
pub type BlockHash = u64;

/// Blocks with reference counts, a queue of free ones in the order of their reuse, and an index
/// of those whose content is known. Block 0 is never handed out, as in vLLM.
#[derive(Clone, Debug)]
pub struct BlockPool {
    caching: bool,
    references: Vec<u32>,
    hashes: Vec<Option<BlockHash>>,
    /// The free queue: a ring through the sentinel, whose number is that of the blocks.
    next: Vec<BlockId>,
    previous: Vec<BlockId>,
    free: u32,
    /// Blocks of equal content, the first one cached first.
    cached: HashMap<BlockHash, Vec<BlockId>, BuildHasherDefault<Mixed>>,
}

impl BlockPool {
    /// A pool of `blocks` blocks, all free but the null block.
    ///
    /// # Panics
    /// Without a single block.
    pub fn new(blocks: u32, caching: bool) -> Self {
        assert!(blocks > 0, "a pool holds at least the null block");
        let ring = blocks + 1;
        let mut pool = Self {
            caching,
            references: vec![0; blocks as usize],
            hashes: vec![None; blocks as usize],
            next: (0..ring).map(|i| (i + 1) % ring).collect(),
            previous: (0..ring).map(|i| (i + ring - 1) % ring).collect(),
            free: blocks,
            cached: HashMap::default(),
        };
        pool.unlink(0);
        pool
    }

    /// Blocks that can be handed out.
    pub fn free_blocks(&self) -> u32 {
        self.free
    }

    /// Blocks that can ever be handed out.
    pub fn usable_blocks(&self) -> u32 {
        self.references.len() as u32 - 1
    }

    /// The block that holds this content, if any does.
    pub fn lookup(&self, hash: BlockHash) -> Option<BlockId> {
        self.cached.get(&hash).map(|blocks| blocks[0])
    }

    /// Whether nobody uses the block: it counts as free until it is touched.
    pub fn is_free(&self, block: BlockId) -> bool {
        self.references[block as usize] == 0
    }

    /// Takes `count` free blocks from the front of the queue; their content is forgotten.
    ///
    /// # Panics
    /// When fewer are free.
    pub fn allocate(&mut self, count: u32, into: &mut Vec<BlockId>) {
        assert!(count <= self.free, "{count} blocks asked of {} free ones", self.free);
        let sentinel = self.sentinel();
        for _ in 0..count {
            let block = self.next[sentinel];
            self.unlink(block);
            self.forget(block);
            self.references[block as usize] = 1;
            into.push(block);
        }
    }

    /// Adds a user to cached blocks.
    pub fn touch(&mut self, blocks: &[BlockId]) {
        for &block in blocks {
            if self.is_free(block) {
                self.unlink(block);
            }
            self.references[block as usize] += 1;
        }
    }

    /// Makes a full block findable.
    pub fn remember(&mut self, block: BlockId, hash: BlockHash) {
        debug_assert!(self.caching && self.hashes[block as usize].is_none());
        self.hashes[block as usize] = Some(hash);
        self.cached.entry(hash).or_default().push(block);
    }

    /// Gives up a request's blocks, in the order of its tokens. Those without content are reused
    /// first, those with content last; of each kind the request's tail first.
    ///
    /// # Panics
    /// When a block has no user.
    pub fn release(&mut self, blocks: &[BlockId]) {
        let mut front = self.sentinel() as BlockId;
        for &block in blocks.iter().rev() {
            let references = &mut self.references[block as usize];
            *references = references.checked_sub(1).expect("a released block has a user");
            if *references > 0 {
                continue;
            }
            if self.hashes[block as usize].is_some() {
                self.link_after(self.previous[self.sentinel()], block);
            } else {
                self.link_after(front, block);
                front = block;
            }
        }
    }

    fn sentinel(&self) -> usize {
        self.references.len()
    }

    fn unlink(&mut self, block: BlockId) {
        let (before, after) = (self.previous[block as usize], self.next[block as usize]);
        self.next[before as usize] = after;
        self.previous[after as usize] = before;
        self.free -= 1;
    }

    fn link_after(&mut self, before: BlockId, block: BlockId) {
        let after = self.next[before as usize];
        self.next[before as usize] = block;
        self.previous[block as usize] = before;
        self.next[block as usize] = after;
        self.previous[after as usize] = block;
        self.free += 1;
    }

    fn forget(&mut self, block: BlockId) {
        let Some(hash) = self.hashes[block as usize].take() else { return };
        let blocks = self.cached.get_mut(&hash).expect("a block's hash is in the index");
        blocks.retain(|other| *other != block);
        if blocks.is_empty() {
            self.cached.remove(&hash);
        }
    }
}

/// Two numbers to a hash (Vigna's SplitMix64 finalizer).
pub fn mix(a: u64, b: u64) -> BlockHash {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hasher of keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix(self.0, u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pool: &mut BlockPool, count: u32) -> Vec<BlockId> {
        let mut blocks = Vec::new();
        pool.allocate(count, &mut blocks);
        blocks
    }

    #[test]
    fn blocks_come_in_order_and_the_null_block_never() {
        let mut pool = BlockPool::new(4, true);
        assert_eq!((pool.free_blocks(), pool.usable_blocks()), (3, 3));
        assert_eq!(take(&mut pool, 3), [1, 2, 3]);
        assert_eq!(pool.free_blocks(), 0);
    }

    #[test]
    fn blocks_without_content_are_reused_first_and_tails_before_heads() {
        let mut pool = BlockPool::new(8, true);
        let blocks = take(&mut pool, 4);
        pool.remember(blocks[0], 10);
        pool.remember(blocks[1], 11);
        pool.release(&blocks);
        // Free now: 4, 3 (no content, tail first), 5, 6, 7 (never used), 2, 1 (content).
        assert_eq!(take(&mut pool, 7), [4, 3, 5, 6, 7, 2, 1]);
        assert_eq!((pool.lookup(10), pool.lookup(11)), (None, None));
    }

    #[test]
    fn a_hit_keeps_a_free_block_from_reuse() {
        let mut pool = BlockPool::new(3, true);
        let blocks = take(&mut pool, 1);
        pool.remember(blocks[0], 7);
        pool.release(&blocks);
        assert_eq!(pool.free_blocks(), 2);
        pool.touch(&[1]);
        assert_eq!(pool.free_blocks(), 1);
        assert_eq!(take(&mut pool, 1), [2]);
        assert_eq!(pool.lookup(7), Some(1));
    }

    #[test]
    fn of_equal_contents_the_first_cached_is_found() {
        let mut pool = BlockPool::new(3, true);
        let (first, second) = (take(&mut pool, 1), take(&mut pool, 1));
        pool.remember(first[0], 7);
        pool.remember(second[0], 7);
        assert_eq!(pool.lookup(7), Some(first[0]));
        pool.release(&first);
        take(&mut pool, 1);
        assert_eq!(pool.lookup(7), Some(second[0]));
    }
}
