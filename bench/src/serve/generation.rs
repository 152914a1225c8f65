//! A streamed answer: events at their times.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::{
    events::{self, Events},
    fault::Fault,
    server::Server,
    source::Source,
    wire::Wire,
};

/// Bytes of one frame of an endless line.
const ENDLESS_BYTES: usize = 64 * 1024;

/// The body of a streamed answer.
pub(crate) struct Generation {
    pub server: Arc<Server>,
    pub wire: Arc<Wire>,
    pub events: Events,
    pub source: Source,
    pub tokens_total: u32,
    pub include_usage: bool,
    /// A fault and the number of tokens after which it strikes.
    pub fault: Option<(Fault, u32)>,
    pub stage: Stage,
    pub tokens_sent: u32,
    /// What waits for the bytes before it to be written.
    pub next: Option<io::Result<Piece>>,
    pub is_flush_due: bool,
}

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A chat's event with the role and no token.
    Role,
    Tokens,
    Usage,
    Done,
    /// Nothing more.
    End,
    /// Nothing more, and the stream stays open.
    Stalled,
    /// A line that has no end.
    Endless,
}

/// Bytes that go together.
pub(crate) struct Piece {
    bytes: Bytes,
    /// Tokens in it, and when the last was due.
    tokens: u32,
    due_ns: u64,
    /// Whether it is one event of the usual kind, of which [`Events::usual`] has copies.
    is_usual: bool,
}

impl Piece {
    fn plain(bytes: Bytes) -> Self {
        Self { bytes, tokens: 0, due_ns: 0, is_usual: false }
    }
}

impl Generation {
    /// The next event, once it is due.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        match self.stage {
            Stage::Role => {
                ready!(self.source.poll_token(1, &self.server.timer, context))?;
                self.stage = Stage::Tokens;
                Poll::Ready(Ok(Piece::plain(self.events.role())))
            }
            Stage::Tokens => self.poll_tokens(context),
            Stage::Usage => {
                self.stage = Stage::Done;
                Poll::Ready(Ok(Piece::plain(self.events.last_usage(self.tokens_sent))))
            }
            Stage::Done => {
                self.stage = Stage::End;
                Poll::Ready(Ok(Piece::plain(Events::done())))
            }
            Stage::Endless => Poll::Ready(Ok(Piece::plain(vec![b'x'; ENDLESS_BYTES].into()))),
            Stage::End | Stage::Stalled => Poll::Pending,
        }
    }

    fn poll_tokens(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        // As with vLLM's --stream-interval, the first token goes alone.
        let interval = if self.tokens_sent == 0 { 1 } else { self.server.options.stream_interval };
        let end = (self.tokens_sent + interval).min(self.tokens_total);
        let due_ns = ready!(self.source.poll_token(end, &self.server.timer, context))?;
        if let Some((fault, after)) = self.fault
            && self.tokens_sent >= after
        {
            self.fault = None;
            if let Some(piece) = self.strike(fault)? {
                return Poll::Ready(Ok(piece));
            }
            return self.poll_event(context);
        }
        let last = end == self.tokens_total;
        let tokens = self.tokens_sent..end;
        let piece = Piece {
            is_usual: self.events.is_usual(&tokens, last),
            tokens: tokens.len() as u32,
            due_ns,
            bytes: self.events.tokens(tokens, last),
        };
        self.tokens_sent = end;
        if last {
            self.wire.phases(self.source.phases());
            self.stage = if self.include_usage { Stage::Usage } else { Stage::Done };
        }
        Poll::Ready(Ok(piece))
    }

    /// Bytes that a fault puts into the stream, if any, or the error that ends it.
    fn strike(&mut self, fault: Fault) -> io::Result<Option<Piece>> {
        let bytes: &'static [u8] = match fault {
            Fault::Reset => {
                self.wire.reset();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Fault::Truncated => return Err(io::ErrorKind::UnexpectedEof.into()),
            Fault::StalledStream => {
                self.stage = Stage::Stalled;
                return Ok(None);
            }
            Fault::EndlessLine => {
                self.stage = Stage::Endless;
                b"data: {\"id\":\""
            }
            Fault::ErrorEvent => {
                self.stage = Stage::Done;
                b"data: {\"error\":{\"message\":\"Internal server error\",\"type\":\"InternalServerError\",\"param\":null,\"code\":500}}\n\n"
            }
            Fault::MalformedEvent => b"data: {\"choices\":[{\"index\":0,\"text\":\n\n",
            Fault::HalfUtf8 => b"data: {\"choices\":[{\"index\":0,\"text\":\" \xe2\x82\"}]}\n\n",
            Fault::Short => {
                self.tokens_total = self.tokens_sent + 1;
                return Ok(None);
            }
            Fault::Abort => {
                self.stage = if self.include_usage { Stage::Usage } else { Stage::Done };
                b"data: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"abort\"}]}\n\n"
            }
            Fault::Http429 | Fault::Http500 | Fault::Http503 | Fault::WrongContentType => {
                return Ok(None);
            }
        };
        Ok(Some(Piece::plain(Bytes::from_static(bytes))))
    }

    /// The next write: as many events as are due, up to the limit.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        let first = ready!(self.poll_event(context))?;
        let limit = self.server.options.events_per_write;
        if limit == 1 {
            return Poll::Ready(Ok(first));
        }
        let mut usual = usize::from(first.is_usual);
        let mut pieces = vec![first];
        while pieces.len() < limit
            && let Poll::Ready(piece) = self.poll_event(context)
        {
            let piece = piece?;
            usual += usize::from(piece.is_usual);
            pieces.push(piece);
        }
        let last = pieces.pop().expect("there is a first piece");
        for piece in &pieces {
            self.hand_over(piece);
        }
        let bytes = if usual == pieces.len() + 1 {
            self.events.usual(usual)
        } else {
            events::join(pieces.iter().chain([&last]).map(|piece| &piece.bytes))
        };
        Poll::Ready(Ok(Piece { bytes, ..last }))
    }

    /// Notes the tokens that the connection is to write.
    fn hand_over(&self, piece: &Piece) {
        if piece.tokens > 0 {
            self.wire.tokens(piece.tokens, piece.due_ns);
        }
    }
}

impl Body for Generation {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.stage == Stage::End && this.next.is_none() {
            return Poll::Ready(None);
        }
        let piece = match this.next.take() {
            Some(piece) => piece,
            None => match this.poll_piece(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => {
                    this.is_flush_due = false;
                    return Poll::Pending;
                }
            },
        };
        // hyper gathers frames until a body is pending, and drops them when it fails: so that each
        // is written by itself, the body pauses after each.
        if std::mem::take(&mut this.is_flush_due) {
            this.next = Some(piece);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        this.is_flush_due = true;
        this.hand_over(&piece);
        if this.stage == Stage::End {
            this.wire.end();
        }
        Poll::Ready(Some(Ok(Frame::data(piece.bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::End && self.next.is_none()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.is_end_stream() {
            self.server.ledger().aborted();
        }
    }
}
