//! The requests of a load point, drawn from its seed or taken from its file: the same plan, byte
//! for byte, everywhere.

use std::{borrow::Cow, ops::Deref, sync::Arc, vec};

use sha2::{Digest as _, Sha256};

use crate::{
    arrival::{Arrivals, replayed_ns},
    canonical::Digest,
    dataset::{Row, RowPrompt},
    rng::Random,
    schema::{Arrival, LoadSpec, Size},
};

/// Streams of the load's seed.
mod stream {
    pub(crate) const ARRIVALS: u64 = 0;
    pub(crate) const LENGTHS: u64 = 1;
    pub(crate) const TURNS: u64 = 2;
}

/// A load point with the rows of its file, if it has one.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The load point.
    pub spec: LoadSpec,
    rows: Arc<[Row]>,
}

impl Workload {
    /// A load whose requests are the rows of its file, in their order.
    pub fn new(spec: LoadSpec, rows: Vec<Row>) -> Self {
        Self { spec, rows: rows.into() }
    }

    /// The text that the file has for a request, if it has texts.
    pub fn text(&self, request: &PlannedRequest) -> Option<&str> {
        match &self.rows.get(request.id as usize)?.prompt {
            RowPrompt::Text(text) => Some(text),
            RowPrompt::Blocks { .. } => None,
        }
    }
}

/// A load whose requests are drawn.
impl From<LoadSpec> for Workload {
    fn from(spec: LoadSpec) -> Self {
        Self::new(spec, Vec::new())
    }
}

impl Deref for Workload {
    type Target = LoadSpec;

    fn deref(&self) -> &LoadSpec {
        &self.spec
    }
}

/// One request of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRequest {
    /// Number in the plan, from 0.
    pub id: u32,
    /// When it is to be sent, in nanoseconds since the start; `None` in a closed loop, where
    /// that is when an earlier one ends, and for the later turns of a conversation.
    pub at_ns: Option<u64>,
    /// How long after the end of the turn before it is to be sent; 0 for the first.
    pub think_ns: u64,
    /// Index into [`LoadSpec::classes`].
    pub class: u16,
    /// Prompt length: shared prefix and history included.
    pub input_tokens: u32,
    /// Output length.
    pub output_tokens: u32,
    /// What the prompt is made of, in order.
    pub prompt: Vec<Piece>,
}

/// A part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose tokens these are: equal sources yield equal tokens.
    pub source: Source,
    /// How many of them.
    pub tokens: u32,
}

/// Where tokens of a prompt come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The prefix that a group shares.
    Prefix(u32),
    /// What the request of this number asks.
    Ask(u32),
    /// What stands for the answer to the request of this number. It is planned, not what the
    /// server said: the plan must not depend on the server.
    Answer(u32),
    /// The block of this name in a trace.
    Block(u64),
}

/// Draws a load's requests one after the other, so that a million need no memory.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    load: Cow<'a, Workload>,
    arrivals: Arrivals,
    lengths: Random,
    turns: Random,
    shares_total: u64,
    next_id: u32,
    /// The rest of a conversation that is handed out request by request.
    rest: vec::IntoIter<PlannedRequest>,
}

impl<'a> Plan<'a> {
    /// The plan of a load, whose classes must not be empty.
    pub fn new(load: &'a Workload) -> Self {
        Self::of(Cow::Borrowed(load))
    }

    /// The same for a load of its own, so that the plan may outlive the caller.
    pub fn owned(load: Workload) -> Plan<'static> {
        Plan::of(Cow::Owned(load))
    }

    fn of(load: Cow<'a, Workload>) -> Self {
        Self {
            arrivals: Arrivals::new(&load, Random::new(load.seed, stream::ARRIVALS)),
            lengths: Random::new(load.seed, stream::LENGTHS),
            turns: Random::new(load.seed, stream::TURNS),
            shares_total: load.classes.iter().map(|c| c.share.millionths().unsigned_abs()).sum(),
            next_id: 0,
            rest: Vec::new().into_iter(),
            load,
        }
    }

    /// The requests of the next conversation: one, unless the load has conversations. The last
    /// one ends where the load's number of requests does.
    ///
    /// A closed loop with a duration never ends by itself: its driver stops.
    pub fn conversation(&mut self) -> Option<Vec<PlannedRequest>> {
        let left = match self.load.size {
            Size::Requests(count) => count.saturating_sub(self.next_id),
            Size::DurationMs(_) => u32::MAX,
        };
        if left == 0 {
            return None;
        }
        if self.load.data.is_some() {
            return self.recorded(left);
        }
        let at_ns = self.arrival()?;
        let Some(conversation) = self.load.conversation else {
            return Some(vec![self.draw(at_ns)]);
        };
        let turns = self.turns.between(conversation.turns_min, conversation.turns_max).min(left);
        let mut requests = vec![self.draw(at_ns)];
        for _ in 1..turns {
            let spread_ms = conversation.think_ms_max - conversation.think_ms_min;
            let think_ms = conversation.think_ms_min + self.turns.below(spread_ms + 1);
            let last = requests.last().expect("a conversation has a first turn");
            requests.push(self.next_turn(last, think_ms.saturating_mul(1_000_000)));
        }
        Some(requests)
    }

    /// When the next request arrives, which a closed loop does not say; `None` after the last.
    fn arrival(&mut self) -> Option<Option<u64>> {
        match self.load.arrival {
            Arrival::ClosedLoop { .. } => Some(None),
            _ => self.arrivals.next().map(Some),
        }
    }

    fn draw(&mut self, at_ns: Option<u64>) -> PlannedRequest {
        let class = self.draw_class();
        let id = self.next_id();
        let (random, spec) = (&mut self.lengths, &self.load.classes[class]);
        let ask_tokens = random.between(spec.input_tokens.min, spec.input_tokens.max);
        let output_tokens = random.between(spec.output_tokens.min, spec.output_tokens.max);
        let prefix = spec.prefix.map(|prefix| {
            let group = random.below(u64::from(prefix.groups)) as u32;
            Piece { source: Source::Prefix(group), tokens: prefix.tokens }
        });
        let ask = Piece { source: Source::Ask(id), tokens: ask_tokens };
        PlannedRequest {
            id,
            at_ns,
            think_ns: 0,
            class: class as u16,
            input_tokens: ask_tokens + prefix.map_or(0, |prefix| prefix.tokens),
            output_tokens,
            prompt: prefix.into_iter().chain([ask]).collect(),
        }
    }

    fn draw_class(&mut self) -> usize {
        let mut ticket = self.lengths.below(self.shares_total.max(1));
        let shares = self.load.classes.iter().map(|class| class.share.millionths().unsigned_abs());
        for (class, share) in shares.enumerate() {
            if ticket < share {
                return class;
            }
            ticket -= share;
        }
        self.load.classes.len() - 1
    }

    /// The history, the answer to it, and what is asked next.
    fn next_turn(&mut self, last: &PlannedRequest, think_ns: u64) -> PlannedRequest {
        let id = self.next_id();
        let (random, spec) = (&mut self.lengths, &self.load.classes[usize::from(last.class)]);
        let ask_tokens = random.between(spec.input_tokens.min, spec.input_tokens.max);
        let output_tokens = random.between(spec.output_tokens.min, spec.output_tokens.max);
        let mut prompt = last.prompt.clone();
        prompt.extend([
            Piece { source: Source::Answer(last.id), tokens: last.output_tokens },
            Piece { source: Source::Ask(id), tokens: ask_tokens },
        ]);
        PlannedRequest {
            id,
            at_ns: None,
            think_ns,
            class: last.class,
            input_tokens: prompt.iter().map(|piece| piece.tokens).sum(),
            output_tokens,
            prompt,
        }
    }

    /// The next row, with those of its conversation that follow; `None` after the last.
    fn recorded(&mut self, left: u32) -> Option<Vec<PlannedRequest>> {
        let rows = Arc::clone(&self.load.rows);
        let conversation = |id: u32| rows.get(id as usize)?.turn.map(|turn| turn.conversation);
        let first = conversation(self.next_id);
        let mut requests = vec![self.row()?];
        while first.is_some()
            && conversation(self.next_id) == first
            && (requests.len() as u32) < left
        {
            let turn = rows[self.next_id as usize].turn?;
            let think_ns_max = self.load.data.as_ref().and_then(|data| data.think_ms_max);
            let think_ns_max = think_ns_max.map_or(u64::MAX, |ms| ms.saturating_mul(1_000_000));
            let request = self.of_row(&rows[self.next_id as usize], None);
            requests.push(PlannedRequest { think_ns: turn.think_ns.min(think_ns_max), ..request });
        }
        Some(requests)
    }

    /// The request of the next row; `None` after the last.
    fn row(&mut self) -> Option<PlannedRequest> {
        let rows = Arc::clone(&self.load.rows);
        let row = rows.get(self.next_id as usize)?;
        let at_ns = match self.load.arrival {
            Arrival::Replay { speed_up } => {
                let at_ns = replayed_ns(row.at_ns - rows[0].at_ns, speed_up);
                let end_ns = match self.load.size {
                    Size::Requests(_) => u64::MAX,
                    Size::DurationMs(ms) => ms.saturating_mul(1_000_000),
                };
                (at_ns < end_ns).then_some(Some(at_ns))?
            }
            _ => self.arrival()?,
        };
        Some(self.of_row(row, at_ns))
    }

    fn of_row(&mut self, row: &Row, at_ns: Option<u64>) -> PlannedRequest {
        let id = self.next_id();
        let output_tokens = match self.load.data.as_ref().and_then(|data| data.output_tokens) {
            Some(range) => self.lengths.between(range.min, range.max),
            // Whoever made the workload has seen that every row has one.
            None => row.output_tokens.unwrap_or(1),
        };
        PlannedRequest {
            id,
            at_ns,
            think_ns: 0,
            class: 0,
            input_tokens: row.input_tokens,
            output_tokens,
            prompt: pieces(id, row),
        }
    }

    fn next_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id - 1
    }
}

/// A trace's blocks as far as the prompt goes, the last one cut; what they do not cover is the
/// request's own.
fn pieces(id: u32, row: &Row) -> Vec<Piece> {
    let (block_tokens, blocks): (u32, &[u64]) = match &row.prompt {
        RowPrompt::Blocks { tokens, names } => (*tokens, names),
        RowPrompt::Text(_) => (0, &[]),
    };
    let mut left = row.input_tokens;
    let mut take = |source, most: u32| {
        let tokens = most.min(left);
        left -= tokens;
        (tokens > 0).then_some(Piece { source, tokens })
    };
    let mut pieces: Vec<Piece> =
        blocks.iter().map_while(|name| take(Source::Block(*name), block_tokens)).collect();
    pieces.extend(take(Source::Ask(id), u32::MAX));
    pieces
}

impl Iterator for Plan<'_> {
    type Item = PlannedRequest;

    /// The next request, conversation by conversation.
    fn next(&mut self) -> Option<PlannedRequest> {
        if let Some(request) = self.rest.next() {
            return Some(request);
        }
        self.rest = self.conversation()?.into_iter();
        self.rest.next()
    }
}

/// Digest of the requests of a load; of the first 1,000 where a closed loop has no end.
pub fn plan_digest(load: &Workload) -> Digest {
    let endless =
        matches!((&load.arrival, load.size), (Arrival::ClosedLoop { .. }, Size::DurationMs(_)));
    let whole = load.data.is_some() || load.conversation.is_some();
    let mut hash = Sha256::new();
    let mut number = |n: u64| hash.update(n.to_le_bytes());
    for request in Plan::new(load).take(if endless { 1_000 } else { usize::MAX }) {
        let (group, prefix_tokens) = match request.prompt.first() {
            Some(Piece { source: Source::Prefix(group), tokens }) => (*group, *tokens),
            _ => (u32::MAX, 0),
        };
        number(u64::from(request.id));
        number(request.at_ns.unwrap_or(u64::MAX));
        number(u64::from(request.class));
        number(u64::from(request.input_tokens));
        number(u64::from(request.output_tokens));
        number(u64::from(group));
        number(u64::from(prefix_tokens));
        if whole {
            number(request.think_ns);
            number(request.prompt.len() as u64);
            for piece in &request.prompt {
                number(piece.source.stream());
                number(u64::from(piece.tokens));
            }
        }
    }
    Digest::from_bytes(hash.finalize().into())
}

impl Source {
    /// Number of the source among all sources of a load.
    pub(crate) fn stream(self) -> u64 {
        match self {
            Self::Ask(id) => u64::from(id),
            Self::Prefix(group) => (1 << 32) + u64::from(group),
            Self::Answer(id) => (1 << 33) + u64::from(id),
            // Names are numbers from 0 in all traces that are known; those of 63 bits would
            // meet others, which costs a wrong cache hit and no more.
            Self::Block(name) => (1 << 63) | name,
        }
    }
}

mod prefix;

pub use prefix::prefix_hit_percent;

#[cfg(test)]
mod tests;
