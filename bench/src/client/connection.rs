//! HTTP/1.1 connections: one task polls a connection and the request on it, and the times of
//! reads and writes are taken at the socket.

use std::{
    collections::BTreeMap,
    error::Error as _,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Uri,
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::answer::Answer;

/// Servers close idle connections, uvicorn after 5 s. One that has been idle for less than this
/// is not about to be closed just as a request is sent on it.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// Most bytes of one read: ten thousand connections stay within a few hundred megabytes.
const BUFFER_BYTES_MAX: usize = 32 << 10;

/// Where requests go.
#[derive(Debug)]
pub(crate) struct Target {
    addresses: Vec<SocketAddr>,
    path: String,
    headers: HeaderMap,
    /// What all times in nanoseconds count from.
    epoch: Instant,
    idle: Mutex<Vec<Link>>,
}

/// Why a request has no whole answer, by the name under which it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

/// Times of one request on its connection; 0 where it has not come to that.
#[derive(Debug, Default)]
struct Marks {
    /// The first byte of the request, or the attempt to connect that it took.
    sent_ns: AtomicU64,
    first_read_ns: AtomicU64,
    read_ns: AtomicU64,
    /// Pieces of answers that have been taken off the connection.
    frames: AtomicU64,
}

/// A connection, and whether it is still open.
#[derive(Debug)]
struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Option<http1::Connection<TokioIo<Timed>, Full<Bytes>>>,
    marks: Arc<Marks>,
    used: Instant,
}

/// When a request was on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) sent_ns: u64,
    pub(crate) first_byte_ns: Option<u64>,
    pub(crate) end_ns: u64,
}

/// The headers of a load.
///
/// # Errors
/// A name or a value that no header may have.
pub(crate) fn header_map(headers: &BTreeMap<String, String>) -> anyhow::Result<HeaderMap> {
    let parse = |(name, value): (&String, &String)| {
        let header = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
        let (Ok(name), Ok(value)) = header else {
            anyhow::bail!("`{name}` is no header; see `headers` of the load");
        };
        Ok((name, value))
    };
    headers.iter().map(parse).collect()
}

impl Target {
    /// Resolves the server's name; `path` is that of the route, `more` are the load's headers.
    pub(crate) async fn resolve(
        base_url: &str,
        path: &str,
        more: &BTreeMap<String, String>,
        api_key: Option<&str>,
    ) -> anyhow::Result<Self> {
        let uri: Uri = base_url.parse().with_context(|| format!("`{base_url}` is no URL"))?;
        let authority = uri.authority().with_context(|| format!("`{base_url}` names no host"))?;
        anyhow::ensure!(
            uri.scheme_str() == Some("http"),
            "`{base_url}`: the load path speaks plain HTTP; start a local proxy for TLS"
        );
        let port = authority.port_u16().unwrap_or(80);
        let addresses = tokio::net::lookup_host((authority.host(), port))
            .await
            .with_context(|| format!("cannot resolve `{}`", authority.host()))?
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(header_map(more)?);
        if let Some(key) = api_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| anyhow::anyhow!("the API key holds a character no header may hold"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Self {
            addresses,
            path: format!("{}{path}", uri.path().trim_end_matches('/')),
            headers,
            epoch: Instant::now(),
            idle: Mutex::default(),
        })
    }

    /// Nanoseconds since this was made.
    pub(crate) fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// The moment so many nanoseconds after this was made.
    pub(crate) fn instant(&self, ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(ns)
    }

    /// Opens connections ahead of a load that will want them at once. What cannot be opened now
    /// fails when it is wanted.
    pub(crate) async fn open_ahead(&self, count: usize) {
        for _ in 0..count {
            let Ok(link) = self.connect(Arc::default()).await else { return };
            self.put_back(link);
        }
    }

    /// Puts one request to the server and reads the answer.
    pub(crate) async fn exchange(
        &self,
        body: Bytes,
        answer: &mut Answer,
        timeout: Duration,
    ) -> (Times, Result<(), Failure>) {
        let mut marks = None;
        let work = self.try_exchange(body, answer, &mut marks);
        let result = match tokio::time::timeout(timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(Failure("timeout".to_owned())),
        };
        let now_ns = self.now_ns();
        let mark = |pick: fn(&Marks) -> &AtomicU64| {
            marks.as_deref().map(|marks| pick(marks).load(Relaxed)).filter(|ns| *ns > 0)
        };
        let times = Times {
            sent_ns: mark(|marks| &marks.sent_ns).unwrap_or(now_ns),
            first_byte_ns: mark(|marks| &marks.first_read_ns),
            end_ns: mark(|marks| &marks.read_ns).filter(|_| result.is_ok()).unwrap_or(now_ns),
        };
        (times, result)
    }

    async fn try_exchange(
        &self,
        body: Bytes,
        answer: &mut Answer,
        marks: &mut Option<Arc<Marks>>,
    ) -> Result<(), Failure> {
        let mut link = if let Some(link) = self.take_idle().await {
            link.marks.reset();
            *marks = Some(Arc::clone(&link.marks));
            link
        } else {
            // A server that is slow to accept holds the request up, not this client.
            let sent_ns = AtomicU64::new(self.now_ns());
            let new = Arc::new(Marks { sent_ns, ..Marks::default() });
            *marks = Some(Arc::clone(&new));
            self.connect(new).await?
        };
        let mut request = Request::post(&*self.path)
            .body(Full::new(body))
            .map_err(|_| Failure("bad_request".to_owned()))?;
        request.headers_mut().clone_from(&self.headers);
        link.exchange(request, answer).await?;
        self.put_back(link);
        Ok(())
    }

    async fn take_idle(&self) -> Option<Link> {
        loop {
            // The last one used is the least likely to have been closed.
            let mut link = lock(&self.idle).pop()?;
            if link.used.elapsed() < IDLE_MAX && link.is_open().await {
                return Some(link);
            }
        }
    }

    fn put_back(&self, mut link: Link) {
        link.used = Instant::now();
        lock(&self.idle).push(link);
    }

    async fn connect(&self, marks: Arc<Marks>) -> Result<Link, Failure> {
        let stream = TcpStream::connect(&*self.addresses).await.map_err(|e| connect_failure(&e))?;
        stream.set_nodelay(true).map_err(|e| connect_failure(&e))?;
        let timed = Timed { stream, marks: Arc::clone(&marks), epoch: self.epoch };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(timed))
            .await
            .map_err(|e| http_failure(&e))?;
        Ok(Link { sender, connection: Some(connection), marks, used: Instant::now() })
    }
}

impl Link {
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        answer: &mut Answer,
    ) -> Result<(), Failure> {
        let Self { sender, connection, marks, .. } = self;
        let marks = &**marks;
        let work = async {
            let response = sender.send_request(request).await.map_err(|e| http_failure(&e))?;
            let status = response.status();
            if !status.is_success() {
                return Err(Failure(format!("http_{}", status.as_u16())));
            }
            if !answer.accepts(response.headers().get(header::CONTENT_TYPE)) {
                return Err(Failure("content_type".to_owned()));
            }
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| http_failure(&e))?;
                marks.frames.fetch_add(1, Relaxed);
                if let Some(bytes) = frame.data_ref() {
                    answer
                        .push(bytes, marks.read_ns.load(Relaxed))
                        .map_err(|fault| Failure(fault.name().to_owned()))?;
                }
            }
            Ok(())
        };
        alongside(connection, marks, work).await
    }

    /// Polls the connection once, which notices that the server has closed it.
    async fn is_open(&mut self) -> bool {
        let Self { sender, connection, .. } = self;
        std::future::poll_fn(|cx| {
            poll_connection(connection, cx);
            Poll::Ready(connection.is_some() && sender.is_ready())
        })
        .await
    }
}

/// Polls work and the connection under it in one task. Two tasks would wake each other twice for
/// every piece of the answer.
async fn alongside<T>(
    connection: &mut Option<http1::Connection<TokioIo<Timed>, Full<Bytes>>>,
    marks: &Marks,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            let frames = marks.frames.load(Relaxed);
            poll_connection(connection, cx);
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            if marks.frames.load(Relaxed) == frames {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// A connection that is over is dropped, which fails what still waits for it.
fn poll_connection(
    connection: &mut Option<http1::Connection<TokioIo<Timed>, Full<Bytes>>>,
    cx: &mut Context<'_>,
) {
    if let Some(open) = connection
        && Pin::new(open).poll(cx).is_ready()
    {
        *connection = None;
    }
}

impl Marks {
    fn reset(&self) {
        self.sent_ns.store(0, Relaxed);
        self.first_read_ns.store(0, Relaxed);
        self.read_ns.store(0, Relaxed);
    }
}

/// Notes when bytes cross the socket.
#[derive(Debug)]
struct Timed {
    stream: TcpStream,
    marks: Arc<Marks>,
    epoch: Instant,
}

impl Timed {
    fn note_write(&self) {
        if self.marks.sent_ns.load(Relaxed) == 0 {
            self.marks.sent_ns.store(self.epoch.elapsed().as_nanos() as u64, Relaxed);
        }
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            let now_ns = self.epoch.elapsed().as_nanos() as u64;
            self.marks.read_ns.store(now_ns, Relaxed);
            if self.marks.first_read_ns.load(Relaxed) == 0 {
                self.marks.first_read_ns.store(now_ns, Relaxed);
            }
        }
        polled
    }
}

impl AsyncWrite for Timed {
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

fn connect_failure(error: &io::Error) -> Failure {
    let name = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection_refused",
        io::ErrorKind::TimedOut => "connect_timeout",
        _ => "connect_failed",
    };
    Failure(name.to_owned())
}

fn http_failure(error: &hyper::Error) -> Failure {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let name = match source.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "connection_reset",
        Some(io::ErrorKind::UnexpectedEof) => "connection_closed",
        // What hyper makes of a bad length of a chunk.
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => "malformed_http",
        _ if error.is_parse() => "malformed_http",
        _ if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
            "connection_closed"
        }
        _ => "http_failed",
    };
    Failure(name.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
