//! A TCP connection whose bytes carry the time at which they came.
//!
//! One thread reads all sockets of a load: of answers that come at once the last is read some
//! milliseconds late. So the kernel is asked when bytes came, where it says; else that is when they
//! were read.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Times of one request on its connection; 0 where it has not come to that.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The first byte of the request, or the attempt to connect that it took.
    pub(super) sent_ns: AtomicU64,
    pub(super) first_read_ns: AtomicU64,
    /// When the last bytes came that have been read.
    pub(super) read_ns: AtomicU64,
    /// Pieces of answers that have been taken off the connection.
    pub(super) frames: AtomicU64,
}

impl Marks {
    /// Of a request that was on its way from that time on.
    pub(super) fn since(sent_ns: u64) -> Self {
        Self { sent_ns: AtomicU64::new(sent_ns), ..Self::default() }
    }

    pub(super) fn reset(&self) {
        self.sent_ns.store(0, Relaxed);
        self.reset_reads();
    }

    /// Forgets what came before the answer.
    pub(super) fn reset_reads(&self) {
        self.first_read_ns.store(0, Relaxed);
        self.read_ns.store(0, Relaxed);
    }
}

/// Notes when bytes cross the socket.
#[derive(Debug)]
pub(super) struct Stamped {
    stream: TcpStream,
    marks: Arc<Marks>,
    epoch: Instant,
}

impl Stamped {
    /// Times count from `epoch`.
    pub(super) fn new(stream: TcpStream, marks: Arc<Marks>, epoch: Instant) -> Self {
        kernel::ask(&stream);
        Self { stream, marks, epoch }
    }

    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn note_write(&self) {
        if self.marks.sent_ns.load(Relaxed) == 0 {
            self.marks.sent_ns.store(self.now_ns(), Relaxed);
        }
    }
}

impl AsyncRead for Stamped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        let polled = kernel::poll_read(&mut self.stream, cx, buf);
        polled.map(|read| {
            // The end of a connection is no part of an answer.
            let age_ns = match read {
                Ok(age_ns) if buf.filled().len() > filled => age_ns,
                read => return read.map(drop),
            };
            let sent_ns = self.marks.sent_ns.load(Relaxed);
            // Nothing comes before it was asked for, whatever two clocks say.
            let at_ns = self.now_ns().saturating_sub(age_ns).max(sent_ns);
            let at_ns = at_ns.max(self.marks.read_ns.load(Relaxed));
            self.marks.read_ns.store(at_ns, Relaxed);
            if self.marks.first_read_ns.load(Relaxed) == 0 {
                self.marks.first_read_ns.store(at_ns, Relaxed);
            }
            Ok(())
        })
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.note_write();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.note_write();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// `SO_TIMESTAMPNS`: the kernel's clock when a segment came in.
#[cfg(target_os = "linux")]
mod kernel {
    use std::{
        cell::RefCell,
        io::{self, IoSliceMut},
        os::fd::AsRawFd as _,
        task::{Context, Poll, ready},
    };

    use nix::sys::{
        socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns},
        time::TimeSpec,
    };
    use rustix::time::{ClockId, clock_gettime};
    use tokio::{
        io::{Interest, ReadBuf},
        net::TcpStream,
    };

    /// Most bytes of one read.
    const READ_BYTES_MAX: usize = 32 << 10;
    /// A time further back is no arrival that was waiting to be read: the clock was set.
    const AGE_NS_MAX: i128 = 10_000_000_000;

    thread_local! {
        /// All connections of a thread read through one buffer: what comes is short, and hyper's own
        /// buffers would have to be cleared for each read.
        static SCRATCH: RefCell<(Vec<u8>, Vec<u8>)> =
            RefCell::new((vec![0; READ_BYTES_MAX], nix::cmsg_space!(TimeSpec)));
    }

    pub(super) fn ask(stream: &TcpStream) {
        // Without it bytes came when they were read.
        let _ = setsockopt(stream, ReceiveTimestampns, &true);
    }

    /// Reads, and gives how long the last byte had been here.
    pub(super) fn poll_read(
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<u64>> {
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_io(Interest::READABLE, || read(stream, buf)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok((age_ns, is_drained)) => {
                    if is_drained {
                        forget_readiness(stream);
                    }
                    return Poll::Ready(Ok(age_ns));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Saves the read that would find nothing, as tokio's own reads do: after fewer bytes than asked for the
    /// kernel tells of the next. Right only where no other thread runs the socket's event loop, which might
    /// have heard of more meanwhile; readers have theirs to themselves.
    fn forget_readiness(stream: &TcpStream) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = stream.try_io(Interest::READABLE, nothing);
    }

    /// Gives the age of the last byte, and whether there was no more to read.
    fn read(stream: &TcpStream, buf: &mut ReadBuf<'_>) -> io::Result<(u64, bool)> {
        SCRATCH.with_borrow_mut(|(scratch, control)| {
            let most = scratch.len().min(buf.remaining());
            let mut parts = [IoSliceMut::new(&mut scratch[..most])];
            let message =
                recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(control), MsgFlags::empty())?;
            let count = message.bytes;
            let came =
                message.cmsgs().ok().into_iter().flatten().find_map(|control| match control {
                    ControlMessageOwned::ScmTimestampns(at) => Some(at),
                    _ => None,
                });
            buf.put_slice(&scratch[..count]);
            Ok((came.map_or(0, age_ns), 0 < count && count < most))
        })
    }

    fn age_ns(came: TimeSpec) -> u64 {
        let now = clock_gettime(ClockId::Realtime);
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        let age = ns(now.tv_sec, now.tv_nsec) - ns(came.tv_sec(), came.tv_nsec());
        if (0..AGE_NS_MAX).contains(&age) { age as u64 } else { 0 }
    }
}

/// Elsewhere bytes came when they were read.
#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::{
        io::{AsyncRead as _, ReadBuf},
        net::TcpStream,
    };

    pub(super) fn ask(_: &TcpStream) {}

    pub(super) fn poll_read(
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<u64>> {
        Pin::new(stream).poll_read(cx, buf).map_ok(|()| 0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn bytes_that_waited_came_before_they_were_read() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("bound");
        let marks = Arc::<Marks>::default();
        let epoch = Instant::now();
        let stream = TcpStream::connect(address).await.expect("it accepts");
        let mut stamped = Stamped::new(stream, Arc::clone(&marks), epoch);
        let (mut peer, _) = listener.accept().await.expect("a client");
        // The kernel begins to stamp some time after the first socket has asked for it.
        for _ in 0..100 {
            peer.write_all(b"early").await.expect("it reads");
            let written_ns = epoch.elapsed().as_nanos() as u64;
            // The reader is busy with something else for a while.
            while epoch.elapsed().as_nanos() as u64 <= written_ns + 20_000_000 {
                std::hint::spin_loop();
            }
            let mut bytes = [0; 5];
            stamped.read_exact(&mut bytes).await.expect("five bytes");
            assert_eq!(&bytes, b"early");
            let came_ns = marks.read_ns.load(Relaxed);
            assert!(came_ns > 0);
            if !cfg!(target_os = "linux") || came_ns <= written_ns + 5_000_000 {
                return;
            }
        }
        panic!("no bytes were stamped by the kernel");
    }
}
