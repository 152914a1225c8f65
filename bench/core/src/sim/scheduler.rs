//! vLLM v1's scheduler (`v1/core/sched/scheduler.py` and `v1/core/kv_cache_manager.py`, 0.32) as
//! pure decisions: who runs in the next step, with how many tokens, and who is preempted.
//!
//! No time, no randomness. Left out, since no flag that the simulator knows reaches them:
//! priorities, speculative decoding, encoders, LoRA, connectors.
//!
//! A step may be decided before the one before it is booked, as vLLM's asynchronous scheduling does
//! (`v1/core/sched/async_scheduler.py`): tokens that are under way count as there.

use std::collections::VecDeque;

use serde::Deserialize;

use super::blocks::{BlockHash, BlockId, BlockPool, mix};

/// What the scheduler keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most requests that run at once.
    pub max_num_seqs: u32,
    /// Most tokens a step.
    pub max_num_batched_tokens: u32,
    /// Longest request, prompt and output.
    pub max_model_len: u32,
    /// Whether a prompt may be split over steps.
    pub chunked_prefill: bool,
    /// Whether full blocks are kept for later requests.
    pub prefix_caching: bool,
    /// Most tokens of one prompt in a step while others want some; 0 for no limit.
    pub long_prefill_token_threshold: u32,
    /// Tokens a block.
    pub block_size: u32,
    /// Blocks of the pool, the null block included.
    pub num_blocks: u32,
}

/// A request as the scheduler sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The caller's name for it; no two requests of one scheduler may share it.
    pub id: u64,
    /// Prompt length, at least 1.
    pub prompt_tokens: u32,
    /// Output length, at least 1.
    pub max_tokens: u32,
    /// Hashes of the prompt's first full blocks, as far as others may have them in common;
    /// all other blocks are taken to be the request's own.
    pub shared_hashes: Vec<BlockHash>,
}

/// Where a request lives in the scheduler, until it ends.
pub type Slot = u32;

/// One request's part in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// [`Request::id`].
    pub id: u64,
    /// Its slot.
    pub slot: Slot,
    /// Tokens computed in this step.
    pub tokens: u32,
    /// Tokens computed before it, cached ones included.
    pub computed: u32,
    /// Whether it joins the batch with this step.
    pub admitted: bool,
    /// Whether the step yields a token for it.
    pub emits: bool,
}

/// A step's decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepPlan {
    /// Who runs: running requests in the order of their admission, then admitted ones.
    pub scheduled: Vec<Scheduled>,
    /// Who lost its blocks to others and waits again.
    pub preempted: Vec<u64>,
}

/// A token that a step yielded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// [`Request::id`].
    pub id: u64,
    /// Its slot, free for others when it has finished.
    pub slot: Slot,
    /// Whether it was the first.
    pub first: bool,
    /// Whether it was the last.
    pub finished: bool,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Preemptions.
    pub preemptions: u64,
    /// Tokens looked up in the prefix cache, at first admissions.
    pub prefix_queries: u64,
    /// Tokens found there.
    pub prefix_hits: u64,
}

impl Counters {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            preemptions: self.preemptions + other.preemptions,
            prefix_queries: self.prefix_queries + other.prefix_queries,
            prefix_hits: self.prefix_hits + other.prefix_hits,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    request: Request,
    outputs: u32,
    /// Output tokens that steps under way will yield (vLLM's `num_output_placeholders`).
    under_way: u32,
    computed: u32,
    preempted: bool,
    finished: bool,
    blocks: Vec<BlockId>,
    /// Blocks, from the first, whose content the pool knows.
    known_blocks: usize,
}

impl Entry {
    /// Tokens whose values are known.
    fn known_tokens(&self) -> u32 {
        self.request.prompt_tokens + self.outputs
    }

    /// Tokens there are once the steps under way have ended.
    fn tokens(&self) -> u32 {
        self.known_tokens() + self.under_way
    }

    /// Whether a step under way yields its last token.
    fn ends_under_way(&self, max_model_len: u32) -> bool {
        self.under_way > 0
            && (self.outputs + self.under_way >= self.request.max_tokens
                || self.tokens() >= max_model_len)
    }

    fn hash(&self, block: usize) -> BlockHash {
        let shared = self.request.shared_hashes.get(block);
        shared.copied().unwrap_or_else(|| mix(!self.request.id, block as u64))
    }
}

/// The scheduler: [`Scheduler::add`], then [`Scheduler::schedule`] and [`Scheduler::complete`]
/// in turn, or with steps under way: each plan is completed once, in order.
#[derive(Clone, Debug)]
pub struct Scheduler {
    limits: Limits,
    pool: BlockPool,
    entries: Vec<Option<Entry>>,
    vacant: Vec<Slot>,
    waiting: VecDeque<Slot>,
    running: Vec<Slot>,
    counters: Counters,
}

impl Scheduler {
    /// An idle scheduler with an empty cache.
    pub fn new(limits: Limits) -> Self {
        Self {
            pool: BlockPool::new(limits.num_blocks, limits.prefix_caching),
            limits,
            entries: Vec::new(),
            vacant: Vec::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Puts a request at the end of the queue. One that is longer than `max_model_len`, or that
    /// the pool cannot hold, would wait forever: the front end refuses it.
    pub fn add(&mut self, request: Request) -> Slot {
        debug_assert!(request.prompt_tokens > 0 && request.max_tokens > 0);
        let entry = Entry {
            request,
            outputs: 0,
            under_way: 0,
            computed: 0,
            preempted: false,
            finished: false,
            blocks: Vec::new(),
            known_blocks: 0,
        };
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() as Slot - 1
        });
        self.entries[slot as usize] = Some(entry);
        self.waiting.push_back(slot);
        slot
    }

    /// Takes a request out, wherever it is; says whether it was there. What steps under way yield
    /// for it goes nowhere.
    pub fn abort(&mut self, id: u64) -> bool {
        let found = self
            .waiting
            .iter()
            .chain(&self.running)
            .copied()
            .find(|slot| self.entry(*slot).request.id == id);
        if let Some(slot) = found {
            self.waiting.retain(|other| *other != slot);
            self.running.retain(|other| *other != slot);
            self.vacate(slot);
        }
        found.is_some()
    }

    /// Decides the next step. The plan is empty when there is nothing to do.
    pub fn schedule(&mut self) -> StepPlan {
        let mut plan = StepPlan::default();
        let mut budget = self.limits.max_num_batched_tokens;
        // The cap keeps a long prompt from starving others; alone, it has nobody to starve.
        let cap = match self.limits.long_prefill_token_threshold {
            0 => u32::MAX,
            _ if self.running.len() + self.waiting.len() <= 1 => u32::MAX,
            threshold => threshold,
        };
        self.schedule_running(&mut plan, &mut budget, cap);
        if plan.preempted.is_empty() {
            self.schedule_waiting(&mut plan, &mut budget, cap);
        }
        for part in &plan.scheduled {
            let entry = self.entry_mut(part.slot);
            entry.computed += part.tokens;
            entry.under_way += u32::from(part.emits);
        }
        plan
    }

    fn schedule_running(&mut self, plan: &mut StepPlan, budget: &mut u32, cap: u32) {
        let mut index = 0;
        while index < self.running.len() && *budget > 0 {
            let slot = self.running[index];
            let entry = self.entry(slot);
            let room = self.limits.max_model_len.saturating_sub(entry.computed + 1);
            let tokens = (entry.tokens() - entry.computed).min(cap).min(*budget).min(room);
            index += 1;
            if tokens == 0 || entry.ends_under_way(self.limits.max_model_len) {
                continue;
            }
            while !self.grow(slot, tokens) {
                let victim = self.running.pop().expect("the request itself runs");
                plan.preempted.push(self.preempt(victim));
                if victim == slot {
                    return;
                }
            }
            *budget -= tokens;
            plan.scheduled.push(self.part(slot, tokens, false));
        }
    }

    fn schedule_waiting(&mut self, plan: &mut StepPlan, budget: &mut u32, cap: u32) {
        while *budget > 0 && self.running.len() < self.limits.max_num_seqs as usize {
            let Some(&slot) = self.waiting.front() else { break };
            let hits = self.cached_prefix(slot);
            let computed = hits.len() as u32 * self.limits.block_size;
            let wanted = (self.entry(slot).tokens() - computed).min(cap);
            if !self.limits.chunked_prefill && wanted > *budget {
                break;
            }
            let tokens = wanted.min(*budget);
            if !self.admit(slot, &hits, tokens) {
                break;
            }
            self.waiting.pop_front();
            self.running.push(slot);
            *budget -= tokens;
            plan.scheduled.push(self.part(slot, tokens, true));
        }
    }

    /// Books a step's results: one token for each request whose tokens are all computed. A
    /// request that has ended leaves, and its blocks are free.
    pub fn complete(&mut self, plan: &StepPlan) -> Vec<Emitted> {
        let mut emitted = Vec::with_capacity(plan.scheduled.len());
        let mut any_finished = false;
        let max_model_len = self.limits.max_model_len;
        for part in plan.scheduled.iter().filter(|part| part.emits) {
            let Some(entry) = self.entries[part.slot as usize].as_mut() else { continue };
            // The slot of an aborted request may be another's by now.
            if entry.request.id != part.id || entry.under_way == 0 {
                continue;
            }
            entry.under_way -= 1;
            entry.outputs += 1;
            entry.finished =
                entry.outputs >= entry.request.max_tokens || entry.known_tokens() >= max_model_len;
            let (first, finished) = (entry.outputs == 1, entry.finished);
            any_finished |= finished;
            emitted.push(Emitted { id: part.id, slot: part.slot, first, finished });
            if !finished {
                self.remember_full_blocks(part.slot);
            }
        }
        if any_finished {
            let entries = &self.entries;
            let stays = |slot: &Slot| entries[*slot as usize].as_ref().is_some_and(|e| !e.finished);
            self.running.retain(stays);
            // A request may be preempted while its last token is under way.
            self.waiting.retain(stays);
            for token in emitted.iter().filter(|token| token.finished) {
                self.vacate(token.slot);
            }
        }
        emitted
    }

    /// Requests in the batch.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Requests in the queue.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Blocks that can be handed out, those of cached content included.
    pub fn free_blocks(&self) -> u32 {
        self.pool.free_blocks()
    }

    /// Blocks in use and blocks that can ever be.
    pub fn used_blocks(&self) -> (u32, u32) {
        (self.pool.usable_blocks() - self.pool.free_blocks(), self.pool.usable_blocks())
    }

    /// Totals since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What it keeps to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn entry(&self, slot: Slot) -> &Entry {
        self.entries[slot as usize].as_ref().expect("a queued slot is taken")
    }

    fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        self.entries[slot as usize].as_mut().expect("a queued slot is taken")
    }

    fn part(&self, slot: Slot, tokens: u32, admitted: bool) -> Scheduled {
        let entry = self.entry(slot);
        let emits = entry.computed + tokens == entry.tokens();
        let (id, computed) = (entry.request.id, entry.computed);
        Scheduled { id, slot, tokens, computed, admitted, emits }
    }

    /// The longest run of cached blocks from the start. The last token is computed in any case,
    /// for its logits.
    fn cached_prefix(&self, slot: Slot) -> Vec<BlockId> {
        if !self.limits.prefix_caching {
            return Vec::new();
        }
        let entry = self.entry(slot);
        let most = (entry.tokens() - 1) / self.limits.block_size;
        (0..most as usize).map_while(|block| self.pool.lookup(entry.hash(block))).collect()
    }

    /// Blocks for `tokens` more of a running request; `false` when too few are free.
    fn grow(&mut self, slot: Slot, tokens: u32) -> bool {
        let entry = self.entry(slot);
        let end = (entry.computed + tokens).min(self.limits.max_model_len);
        let missing =
            end.div_ceil(self.limits.block_size).saturating_sub(entry.blocks.len() as u32);
        if missing > self.pool.free_blocks() {
            return false;
        }
        self.take_blocks(slot, missing, end);
        true
    }

    /// Blocks for a waiting request's first `tokens` after its cached prefix; `false` when the
    /// pool could not hold all of its tokens now.
    fn admit(&mut self, slot: Slot, hits: &[BlockId], tokens: u32) -> bool {
        let Limits { block_size, max_model_len, .. } = self.limits;
        let computed = hits.len() as u32 * block_size;
        let all = self.entry(slot).tokens().min(max_model_len).div_ceil(block_size);
        let revived = hits.iter().filter(|block| self.pool.is_free(**block)).count() as u32;
        if all - hits.len() as u32 + revived > self.pool.free_blocks() {
            return false;
        }
        self.pool.touch(hits);
        let entry = self.entry_mut(slot);
        entry.blocks.extend_from_slice(hits);
        entry.known_blocks = hits.len();
        entry.computed = computed;
        let (queries, first) = (u64::from(entry.tokens()), !entry.preempted);
        if self.limits.prefix_caching && first {
            self.counters.prefix_queries += queries;
            self.counters.prefix_hits += u64::from(computed);
        }
        let end = (computed + tokens).min(max_model_len);
        self.take_blocks(slot, end.div_ceil(block_size) - hits.len() as u32, end);
        true
    }

    fn take_blocks(&mut self, slot: Slot, count: u32, end: u32) {
        let entry = self.entries[slot as usize].as_mut().expect("a queued slot is taken");
        self.pool.allocate(count, &mut entry.blocks);
        self.remember_blocks(slot, end);
    }

    /// Makes the blocks known that are full with `end` tokens: vLLM does so before they are
    /// computed, so that requests of the same step may share them. Tokens under way are not known.
    fn remember_blocks(&mut self, slot: Slot, end: u32) {
        if !self.limits.prefix_caching {
            return;
        }
        let entry = self.entries[slot as usize].as_mut().expect("a queued slot is taken");
        let full = (end.min(entry.known_tokens()) / self.limits.block_size) as usize;
        for block in entry.known_blocks..full {
            self.pool.remember(entry.blocks[block], entry.hash(block));
        }
        entry.known_blocks = entry.known_blocks.max(full);
    }

    /// The same once a token that was under way has come.
    fn remember_full_blocks(&mut self, slot: Slot) {
        let entry = self.entry(slot);
        self.remember_blocks(slot, entry.computed - entry.under_way.min(entry.computed));
    }

    fn preempt(&mut self, slot: Slot) -> u64 {
        let entry = self.entries[slot as usize].as_mut().expect("a queued slot is taken");
        self.pool.release(&entry.blocks);
        entry.blocks.clear();
        entry.known_blocks = 0;
        entry.computed = 0;
        entry.preempted = true;
        self.counters.preemptions += 1;
        let id = entry.request.id;
        self.waiting.push_front(slot);
        id
    }

    fn vacate(&mut self, slot: Slot) {
        let entry = self.entries[slot as usize].take().expect("a queued slot is taken");
        self.pool.release(&entry.blocks);
        self.vacant.push(slot);
    }
}
