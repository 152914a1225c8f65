//! The scheduler's rules, on small pools where everything happens fast.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bench_core::sim::{
    blocks::mix,
    scheduler::{Limits, Request, Scheduled, Scheduler, StepPlan},
};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    max_num_seqs: 4,
    max_num_batched_tokens: 32,
    max_model_len: 64,
    chunked_prefill: true,
    prefix_caching: true,
    long_prefill_token_threshold: 0,
    block_size: 4,
    num_blocks: 41,
};

fn request(id: u64, prompt_tokens: u32, max_tokens: u32) -> Request {
    Request { id, prompt_tokens, max_tokens, shared_hashes: Vec::new() }
}

fn with_prefix(id: u64, prompt_tokens: u32, max_tokens: u32, blocks: u64) -> Request {
    let shared_hashes = (0..blocks).map(|block| mix(99, block)).collect();
    Request { shared_hashes, ..request(id, prompt_tokens, max_tokens) }
}

/// `(id, tokens)` of a plan.
fn parts(plan: &StepPlan) -> Vec<(u64, u32)> {
    plan.scheduled.iter().map(|part| (part.id, part.tokens)).collect()
}

fn step(scheduler: &mut Scheduler) -> StepPlan {
    let plan = scheduler.schedule();
    scheduler.complete(&plan);
    plan
}

#[test]
fn running_requests_come_first_and_prompts_fill_the_budget() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.add(request(1, 20, 9));
    scheduler.add(request(2, 20, 9));
    scheduler.add(request(3, 20, 9));
    assert_eq!(parts(&step(&mut scheduler)), [(1, 20), (2, 12)]);
    assert_eq!(parts(&step(&mut scheduler)), [(1, 1), (2, 8), (3, 20)]);
    assert_eq!(parts(&step(&mut scheduler)), [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn without_chunked_prefill_a_prompt_waits_until_it_fits_whole() {
    let limits = Limits { chunked_prefill: false, max_num_batched_tokens: 64, ..LIMITS };
    let mut scheduler = Scheduler::new(limits);
    scheduler.add(request(1, 40, 2));
    scheduler.add(request(2, 30, 2));
    scheduler.add(request(3, 1, 2));
    // The third would fit, but never overtakes the second.
    assert_eq!(parts(&step(&mut scheduler)), [(1, 40)]);
    assert_eq!(parts(&step(&mut scheduler)), [(1, 1), (2, 30), (3, 1)]);
}

#[test]
fn a_long_prompt_is_capped_only_when_others_want_tokens() {
    let limits = Limits { long_prefill_token_threshold: 8, ..LIMITS };
    let mut scheduler = Scheduler::new(limits);
    scheduler.add(request(1, 60, 1));
    assert_eq!(parts(&step(&mut scheduler)), [(1, 32)]);
    scheduler.add(request(2, 20, 1));
    assert_eq!(parts(&step(&mut scheduler)), [(1, 8), (2, 8)]);
}

#[test]
fn the_last_admitted_is_preempted_and_computed_again() {
    // Eight usable blocks of four tokens: two requests of 16 tokens fill them.
    let limits = Limits { num_blocks: 9, max_model_len: 32, prefix_caching: false, ..LIMITS };
    let mut scheduler = Scheduler::new(limits);
    scheduler.add(request(1, 15, 4));
    scheduler.add(request(2, 15, 4));
    scheduler.add(request(3, 1, 1));
    assert_eq!(parts(&step(&mut scheduler)), [(1, 15), (2, 15)]);
    assert_eq!(scheduler.free_blocks(), 0);
    assert_eq!(parts(&step(&mut scheduler)), [(1, 1), (2, 1)]);
    let plan = step(&mut scheduler);
    assert_eq!((parts(&plan), plan.preempted), (vec![(1, 1)], vec![2]));
    // It waits at the front, with the two tokens that it had yielded to compute again; nobody
    // overtakes it although the third would fit.
    assert_eq!((scheduler.running(), scheduler.waiting()), (1, 2));
    assert_eq!(parts(&step(&mut scheduler)), [(1, 1)]);
    assert_eq!(parts(&step(&mut scheduler)), [(2, 17), (3, 1)]);
    assert_eq!(scheduler.counters().preemptions, 1);
}

#[test]
fn a_prompt_that_does_not_fit_whole_is_not_begun() {
    let limits = Limits { num_blocks: 9, max_model_len: 32, max_num_batched_tokens: 8, ..LIMITS };
    let mut scheduler = Scheduler::new(limits);
    scheduler.add(request(1, 20, 1));
    scheduler.add(request(2, 20, 1));
    assert_eq!(parts(&step(&mut scheduler)), [(1, 8)]);
    assert_eq!(parts(&step(&mut scheduler)), [(1, 8)]);
    // 20 tokens need five blocks: three are free, then all eight.
    assert_eq!(parts(&step(&mut scheduler)), [(1, 4)]);
    assert_eq!(parts(&step(&mut scheduler)), [(2, 8)]);
}

#[test]
fn a_step_may_be_decided_before_the_one_before_is_booked() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.add(request(1, 20, 2));
    scheduler.add(request(2, 20, 3));
    let first = scheduler.schedule();
    assert_eq!(parts(&first), [(1, 20), (2, 12)]);
    // The first token of the first request is under way, and is computed on.
    let second = scheduler.schedule();
    assert_eq!(parts(&second), [(1, 1), (2, 8)]);
    assert_eq!(scheduler.complete(&first).iter().map(|t| t.id).collect::<Vec<_>>(), [1]);
    // Its last one is under way: there is nothing more to decide for it.
    let third = scheduler.schedule();
    assert_eq!(parts(&third), [(2, 1)]);
    let tokens = scheduler.complete(&second);
    assert_eq!(
        tokens.iter().map(|t| (t.id, t.finished)).collect::<Vec<_>>(),
        [(1, true), (2, false)]
    );
    assert_eq!(scheduler.running(), 1);
}

#[test]
fn what_a_step_yields_for_an_aborted_request_goes_nowhere() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.add(request(1, 20, 9));
    let plan = scheduler.schedule();
    assert!(scheduler.abort(1));
    assert_eq!(scheduler.add(request(2, 4, 1)), plan.scheduled[0].slot);
    assert_eq!(scheduler.complete(&plan), []);
    assert_eq!(parts(&step(&mut scheduler)), [(2, 4)]);
}

#[test]
fn a_shared_prefix_is_computed_once() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.add(with_prefix(1, 18, 1, 4));
    scheduler.add(with_prefix(2, 20, 1, 4));
    // Blocks are known as soon as they are scheduled, even within the step.
    let plan = step(&mut scheduler);
    assert_eq!(parts(&plan), [(1, 18), (2, 4)]);
    assert_eq!(plan.scheduled[1].computed, 16);
    let counters = scheduler.counters();
    assert_eq!((counters.prefix_queries, counters.prefix_hits), (38, 16));
}

#[test]
fn the_last_block_of_a_fully_cached_prompt_is_computed_again() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.add(with_prefix(1, 16, 1, 4));
    step(&mut scheduler);
    scheduler.add(with_prefix(2, 16, 1, 4));
    assert_eq!(parts(&step(&mut scheduler)), [(2, 4)]);
}

#[test]
fn a_preempted_request_finds_its_own_blocks() {
    let limits = Limits { num_blocks: 9, max_model_len: 32, ..LIMITS };
    let mut scheduler = Scheduler::new(limits);
    scheduler.add(request(1, 16, 2));
    scheduler.add(request(2, 16, 2));
    step(&mut scheduler);
    assert_eq!(step(&mut scheduler).preempted, [2]);
    // One of its four blocks went to the other request: the tail, so three are found.
    let plan = step(&mut scheduler);
    assert_eq!((plan.scheduled[0].computed, parts(&plan)), (12, vec![(2, 5)]));
    // Hits after a preemption are not counted.
    assert_eq!(scheduler.counters().prefix_hits, 0);
}

#[test]
fn an_aborted_request_gives_its_blocks_back() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.add(request(1, 20, 9));
    step(&mut scheduler);
    scheduler.add(request(2, 20, 9));
    assert!(scheduler.abort(1) && scheduler.abort(2) && !scheduler.abort(3));
    assert_eq!((scheduler.free_blocks(), scheduler.running(), scheduler.waiting()), (40, 0, 0));
}

#[test]
fn a_request_ends_at_the_longest_length() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.add(request(1, 30, 99));
    let mut tokens = 0;
    while scheduler.running() + scheduler.waiting() > 0 {
        let plan = scheduler.schedule();
        tokens += scheduler.complete(&plan).len();
    }
    assert_eq!(tokens, 34);
}

/// A case: limits, and requests with the step before which each comes.
#[derive(Debug, Clone)]
struct Case {
    limits: Limits,
    requests: Vec<(u32, Request)>,
}

prop_compose! {
    fn cases()(
        max_num_seqs in 1_u32..8,
        chunked_prefill: bool,
        prefix_caching: bool,
        threshold in prop_oneof![Just(0_u32), 1_u32..32],
        budget in 8_u32..80,
        block_size in prop_oneof![Just(1_u32), Just(4), Just(16)],
        spare_blocks in 0_u32..12,
        drawn in prop::collection::vec((0_u32..30, 1_u32..46, 1_u32..20, 0_u64..5, 0_u64..3), 1..25),
    ) -> Case {
        let max_model_len = 64;
        let max_num_batched_tokens =
            if chunked_prefill { budget.max(max_num_seqs) } else { budget.max(max_model_len) };
        // As small a pool as vLLM starts with: one request of full length fits, and little more.
        let num_blocks = 1 + max_model_len.div_ceil(block_size) + spare_blocks;
        let requests = drawn.into_iter().enumerate().map(|(id, (at, prompt, output, prefix, group))| {
            let shared = prefix.min(u64::from(prompt / block_size));
            let shared_hashes = (0..shared).map(|block| mix(group, block)).collect();
            (at, Request { id: id as u64, prompt_tokens: prompt, max_tokens: output, shared_hashes })
        }).collect();
        Case {
            limits: Limits {
                max_num_seqs, max_num_batched_tokens, max_model_len, chunked_prefill,
                prefix_caching, long_prefill_token_threshold: threshold, block_size, num_blocks,
            },
            requests,
        }
    }
}

/// What the checks remember between steps.
#[derive(Default)]
struct Ledger {
    /// Tokens that each request still has to yield.
    owed: BTreeMap<u64, u32>,
    /// Requests in the order in which they must be admitted: arrivals, preempted ones in front.
    queue: Vec<u64>,
    admitted: BTreeSet<u64>,
}

impl Ledger {
    fn check_admissions(&mut self, plan: &StepPlan) -> Result<(), TestCaseError> {
        for id in &plan.preempted {
            prop_assert!(self.admitted.remove(id), "{id} is preempted but does not run");
            self.queue.insert(0, *id);
        }
        let joining: Vec<&Scheduled> = plan.scheduled.iter().filter(|part| part.admitted).collect();
        prop_assert!(plan.preempted.is_empty() || joining.is_empty());
        for part in joining {
            prop_assert_eq!(self.queue.first(), Some(&part.id), "out of order");
            self.queue.remove(0);
            self.admitted.insert(part.id);
        }
        let ids: BTreeSet<u64> = plan.scheduled.iter().map(|part| part.id).collect();
        prop_assert_eq!(ids.len(), plan.scheduled.len(), "scheduled twice");
        prop_assert!(ids.is_subset(&self.admitted));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn invariants_hold(case in cases(), ahead: bool) {
        let limits = case.limits;
        let mut scheduler = Scheduler::new(limits);
        let mut ledger = Ledger::default();
        let mut under_way = VecDeque::new();
        let mut steps = 0;
        loop {
            for (at, request) in &case.requests {
                if *at == steps {
                    ledger.owed.insert(request.id, request.max_tokens);
                    ledger.queue.push(request.id);
                    scheduler.add(request.clone());
                }
            }
            let plan = scheduler.schedule();
            ledger.check_admissions(&plan)?;

            let tokens: u32 = plan.scheduled.iter().map(|part| part.tokens).sum();
            prop_assert!(tokens <= limits.max_num_batched_tokens);
            prop_assert!(plan.scheduled.iter().all(|part| part.tokens > 0));
            prop_assert!(scheduler.running() <= limits.max_num_seqs as usize);
            prop_assert_eq!(scheduler.running(), ledger.admitted.len());
            prop_assert_eq!(scheduler.waiting(), ledger.queue.len());
            // Work conserving: what is there is worked on, and nobody who fits is left out.
            prop_assert!(
                !plan.scheduled.is_empty() || ledger.owed.is_empty() || !under_way.is_empty()
            );
            if limits.chunked_prefill && limits.long_prefill_token_threshold == 0 {
                prop_assert!(
                    tokens == limits.max_num_batched_tokens
                        || scheduler.running() == limits.max_num_seqs as usize
                        || ledger.queue.is_empty()
                        || !plan.preempted.is_empty()
                        || scheduler.free_blocks() < limits.max_model_len.div_ceil(limits.block_size)
                );
            }

            let is_idle = plan.scheduled.is_empty();
            if !is_idle {
                under_way.push_back(plan);
            }
            let awaits = is_idle || !ahead || under_way.len() == 2;
            let oldest = under_way.pop_front_if(|_| awaits).unwrap_or_default();
            for token in scheduler.complete(&oldest) {
                let owed = ledger.owed.get_mut(&token.id).expect("served after its end");
                *owed -= 1;
                prop_assert_eq!(token.finished, *owed == 0);
                if token.finished {
                    ledger.owed.remove(&token.id);
                    ledger.admitted.remove(&token.id);
                    ledger.queue.retain(|id| *id != token.id);
                }
            }
            let (used, usable) = scheduler.used_blocks();
            prop_assert_eq!((used + scheduler.free_blocks(), usable), (usable, limits.num_blocks - 1));
            steps += 1;
            if steps > 30 && ledger.owed.is_empty() {
                break;
            }
            prop_assert!(steps < 20_000, "requests wait forever");
        }
        prop_assert_eq!(scheduler.free_blocks(), limits.num_blocks - 1, "blocks are lost");
    }
}
