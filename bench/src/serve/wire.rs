//! A connection that knows when its bytes were read and written.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bench_core::schema::Phases;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::ledger::{Ledger, Span};
use crate::timer::now_ns;

/// What an answer and its connection tell each other.
pub(crate) struct Wire {
    ledger: Arc<Mutex<Ledger>>,
    read_ns: AtomicU64,
    is_reset: AtomicBool,
    has_unwritten: AtomicBool,
    answer: Mutex<Answer>,
}

/// The answer that is being written.
#[derive(Default)]
struct Answer {
    span: Span,
    /// Tokens handed over and not yet written: when they were due, and how many.
    unwritten: Vec<(u64, u32)>,
    /// Whether nothing comes after those.
    ends: bool,
}

impl Wire {
    pub(crate) fn new(ledger: Arc<Mutex<Ledger>>) -> Self {
        Self {
            ledger,
            read_ns: AtomicU64::new(0),
            is_reset: AtomicBool::new(false),
            has_unwritten: AtomicBool::new(false),
            answer: Mutex::default(),
        }
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When bytes were last read.
    pub(crate) fn read_ns(&self) -> u64 {
        self.read_ns.load(Ordering::Relaxed)
    }

    /// A streamed answer begins.
    pub(crate) fn begin(&self, span: Span) {
        *self.answer() = Answer { span, ..Answer::default() };
    }

    /// Where the request's time went in the engine.
    pub(crate) fn phases(&self, phases: Option<Phases>) {
        self.answer().span.phases = phases;
    }

    /// Tokens that were due at `due_ns` are handed to the connection.
    pub(crate) fn tokens(&self, tokens: u32, due_ns: u64) {
        self.answer().unwritten.push((due_ns, tokens));
        self.has_unwritten.store(true, Ordering::Relaxed);
    }

    /// The answer's last bytes are handed to the connection.
    pub(crate) fn end(&self) {
        self.answer().ends = true;
        self.has_unwritten.store(true, Ordering::Relaxed);
    }

    /// The connection is to be reset when it closes.
    pub(crate) fn reset(&self) {
        self.is_reset.store(true, Ordering::Relaxed);
    }

    /// Everything that was handed over has been written.
    fn written(&self) {
        if !self.has_unwritten.swap(false, Ordering::Relaxed) {
            return;
        }
        let at_ns = now_ns();
        let mut answer = self.answer();
        let mut ledger = self.ledger();
        let Answer { span, unwritten, ends } = &mut *answer;
        for (due_ns, tokens) in unwritten.drain(..) {
            ledger.tokens(span, tokens, due_ns, at_ns);
        }
        if std::mem::take(ends) {
            ledger.completed(span, at_ns);
        }
    }

    /// The connection is gone.
    fn closed(&self) {
        let mut answer = self.answer();
        if std::mem::take(&mut answer.ends) {
            self.ledger().aborted();
        }
    }
}

/// The socket under hyper.
pub(crate) struct Connection {
    socket: TokioIo<TcpStream>,
    wire: Arc<Wire>,
    /// Large writes are not worth a copy, small ones are not worth a vector.
    is_vectored: bool,
}

impl Connection {
    pub(crate) fn new(socket: TcpStream, wire: Arc<Wire>, is_vectored: bool) -> Self {
        Self { socket: TokioIo::new(socket), wire, is_vectored }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.wire.closed();
        if self.wire.is_reset.load(Ordering::Relaxed) {
            // Without a linger the kernel sends RST instead of FIN; a socket that is gone already
            // needs neither.
            let _ = self.socket.inner().set_zero_linger();
        }
    }
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = read {
            self.wire.read_ns.store(now_ns(), Ordering::Relaxed);
        }
        read
    }
}

impl Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    /// hyper flushes once its own buffers are empty: then everything is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.written();
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.is_vectored
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, parts)
    }
}
