//! HTTP/1.1 connections, over TLS where the URL says so: one task polls a connection and the request
//! on it, and the times of reads and writes are taken at the socket. No proxy is used.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as _,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Response, Uri,
    body::Incoming,
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use super::{
    answer::{Answer, quoted},
    secrets::Secrets,
    stamped::{Marks, Stamped},
    tls::{Socket, Tls},
};

/// Servers close idle connections, uvicorn after 5 s. One that has been idle for less than this
/// is not about to be closed just as a request is sent on it.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// Most bytes of one read: ten thousand connections stay within a few hundred megabytes.
const BUFFER_BYTES_MAX: usize = 32 << 10;

/// Connections that are opened at once.
const OPENED_AT_ONCE: usize = 64;
/// Most bytes that are read of an answer that is an error.
const ERROR_BYTES_MAX: usize = 4 << 10;

/// Progress of a load: written by its reader threads, read by the thread that watches.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Requests that were sent, or tried to.
    pub(crate) sent: AtomicU64,
    /// Requests that have ended.
    pub(crate) done: AtomicU64,
    /// When an answer went on last, to within [`HEARD_NS`].
    pub(crate) heard_ns: AtomicU64,
    /// Answers under way.
    pub(crate) streams: Streams,
}

/// A count of all pieces would be written by every reader thread for each of them, which slows all down.
const HEARD_NS: u64 = 10_000_000;

impl Traffic {
    fn hear(&self, at_ns: u64) {
        if at_ns >= self.heard_ns.load(Relaxed) + HEARD_NS {
            self.heard_ns.store(at_ns, Relaxed);
        }
    }
}

/// The connections of requests under way.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// By the address of their marks.
    open: Mutex<HashMap<usize, Stream>>,
    /// What the marks' times count from.
    epoch: OnceLock<Instant>,
}

/// The connection of a request under way.
#[derive(Debug)]
struct Stream {
    marks: Arc<Marks>,
    /// Pieces that had come on it for earlier requests.
    frames_before: u64,
}

/// Pieces of an answer after which it has begun: the first may come before any token.
const PIECES_OF_BEGUN: u64 = 2;

impl Streams {
    fn begin(&self, marks: &Arc<Marks>, epoch: Instant) {
        self.epoch.get_or_init(|| epoch);
        let stream = Stream { marks: Arc::clone(marks), frames_before: marks.frames.load(Relaxed) };
        lock(&self.open).insert(Arc::as_ptr(marks).addr(), stream);
    }

    fn end(&self, marks: &Arc<Marks>) {
        lock(&self.open).remove(&Arc::as_ptr(marks).addr());
    }

    /// Answers that have begun and of which nothing has come for so long.
    pub(crate) fn stalled(&self, now: Instant, patience: Duration) -> u64 {
        let Some(epoch) = self.epoch.get() else { return 0 };
        let since_ns = now.saturating_duration_since(*epoch).saturating_sub(patience).as_nanos();
        let is_stalled = |stream: &&Stream| {
            let Marks { frames, read_ns, .. } = &*stream.marks;
            frames.load(Relaxed) - stream.frames_before >= PIECES_OF_BEGUN
                && u128::from(read_ns.load(Relaxed)) < since_ns
        };
        lock(&self.open).values().filter(is_stalled).count() as u64
    }
}

/// Where requests go.
#[derive(Debug)]
pub(crate) struct Target {
    endpoint: Arc<Endpoint>,
    path: String,
    headers: HeaderMap,
    secrets: Secrets,
    idle: Mutex<Vec<Link>>,
    /// What is counted of its requests.
    pub(crate) traffic: Arc<Traffic>,
}

/// What a connection is opened to.
#[derive(Debug)]
struct Endpoint {
    addresses: Vec<SocketAddr>,
    tls: Option<Tls>,
    /// What all times in nanoseconds count from.
    epoch: Instant,
}

/// Why a request has no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The name under which it is counted.
    pub(crate) kind: String,
    /// The first bytes of what the server said, secrets masked.
    pub(crate) text: Option<Box<str>>,
}

impl Failure {
    fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), text: None }
    }

    fn saying(self, text: impl Into<Box<str>>) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    /// Whether a server that closes an idle connection looks like this.
    fn is_closed(&self) -> bool {
        matches!(&*self.kind, "connection_closed" | "connection_reset")
    }
}

/// A connection, and whether it is still open.
#[derive(Debug)]
struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Option<http1::Connection<TokioIo<Socket>, Full<Bytes>>>,
    marks: Arc<Marks>,
    used: Instant,
}

/// When a request was on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) sent_ns: u64,
    pub(crate) first_byte_ns: Option<u64>,
    pub(crate) end_ns: u64,
    /// Whether it was sent once more, since a pooled connection was found closed.
    pub(crate) is_resent: bool,
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
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => anyhow::bail!("`{base_url}` is no URL of a server: expected http:// or https://"),
        };
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        // An IPv6 address stands in brackets.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let addresses = tokio::net::lookup_host((host, port))
            .await
            .with_context(|| format!("cannot resolve `{host}`"))?
            .collect();
        let tls = is_tls.then(|| Tls::new(host)).transpose()?;
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
            endpoint: Arc::new(Endpoint { addresses, tls, epoch: Instant::now() }),
            path: format!("{}{path}", uri.path().trim_end_matches('/')),
            secrets: Secrets::of(&headers),
            headers,
            idle: Mutex::default(),
            traffic: Arc::default(),
        })
    }

    /// The same server with the same clock, and no connection yet: those of one thread's runtime are of no
    /// use in another's.
    pub(crate) fn with_own_connections(&self) -> Self {
        Self {
            endpoint: Arc::clone(&self.endpoint),
            path: self.path.clone(),
            headers: self.headers.clone(),
            secrets: self.secrets.clone(),
            idle: Mutex::default(),
            traffic: Arc::clone(&self.traffic),
        }
    }

    /// What a server said, without what must not be quoted.
    pub(crate) fn mask(&self, text: &str) -> Box<str> {
        self.secrets.mask(text)
    }

    /// Nanoseconds since this was made.
    pub(crate) fn now_ns(&self) -> u64 {
        self.endpoint.epoch.elapsed().as_nanos() as u64
    }

    /// The moment so many nanoseconds after this was made.
    pub(crate) fn instant(&self, ns: u64) -> Instant {
        self.endpoint.epoch + Duration::from_nanos(ns)
    }

    /// Opens connections ahead of a load that will want them at once. What cannot be opened now
    /// fails when it is wanted.
    pub(crate) async fn open_ahead(&self, count: usize) {
        let mut left = count;
        let mut opening = JoinSet::new();
        loop {
            while left > 0 && opening.len() < OPENED_AT_ONCE {
                let endpoint = Arc::clone(&self.endpoint);
                opening.spawn(async move { endpoint.connect(Arc::default()).await });
                left -= 1;
            }
            match opening.join_next().await {
                Some(Ok(Ok(link))) => self.put_back(link),
                Some(_) => left = 0,
                None => return,
            }
        }
    }

    /// Puts one request to the server and reads the answer.
    pub(crate) async fn exchange(
        &self,
        body: Bytes,
        answer: &mut Answer,
        timeout: Duration,
    ) -> (Times, Result<(), Failure>) {
        let mut course = Course::default();
        let work = self.try_exchange(body, answer, &mut course);
        let result = match tokio::time::timeout(timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new("timeout")),
        };
        let result = result.map_err(|Failure { kind, text }| {
            let text = text.map(|text| self.mask(&text)).filter(|text| !text.is_empty());
            Failure { kind, text }
        });
        let now_ns = self.now_ns();
        let Course { marks, is_resent } = course;
        marks.iter().for_each(|marks| self.traffic.streams.end(marks));
        let mark = |pick: fn(&Marks) -> &std::sync::atomic::AtomicU64| {
            marks.as_deref().map(|marks| pick(marks).load(Relaxed)).filter(|ns| *ns > 0)
        };
        let times = Times {
            sent_ns: mark(|marks| &marks.sent_ns).unwrap_or(now_ns),
            first_byte_ns: mark(|marks| &marks.first_read_ns),
            end_ns: mark(|marks| &marks.read_ns).filter(|_| result.is_ok()).unwrap_or(now_ns),
            is_resent,
        };
        (times, result)
    }

    async fn try_exchange(
        &self,
        body: Bytes,
        answer: &mut Answer,
        course: &mut Course,
    ) -> Result<(), Failure> {
        // A server that is slow to accept holds the request up, not this client.
        let mut sent_ns = self.now_ns();
        if let Some(mut link) = self.take_idle().await {
            link.marks.reset();
            course.marks = Some(Arc::clone(&link.marks));
            self.traffic.streams.begin(&link.marks, self.endpoint.epoch);
            match link.exchange(self.request(body.clone())?, answer, &self.traffic).await {
                Ok(()) => {
                    self.put_back(link);
                    return Ok(());
                }
                // The server may have closed it just now, without a look at the request. That is
                // said to nobody else: it is sent once more.
                Err(failure) if failure.is_closed() && !link.has_read() => {
                    course.is_resent = true;
                    self.traffic.streams.end(&link.marks);
                    let first_ns = link.marks.sent_ns.load(Relaxed);
                    sent_ns = if first_ns > 0 { first_ns } else { sent_ns };
                }
                Err(failure) => return Err(failure),
            }
        }
        let new = Arc::new(Marks::since(sent_ns));
        course.marks = Some(Arc::clone(&new));
        self.traffic.streams.begin(&new, self.endpoint.epoch);
        let mut link = self.endpoint.connect(new).await?;
        link.exchange(self.request(body)?, answer, &self.traffic).await?;
        self.put_back(link);
        Ok(())
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::post(&*self.path)
            .body(Full::new(body))
            .map_err(|_| Failure::new("bad_request"))?;
        request.headers_mut().clone_from(&self.headers);
        Ok(request)
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
}

/// What became of a request so far.
#[derive(Debug, Default)]
struct Course {
    marks: Option<Arc<Marks>>,
    is_resent: bool,
}

impl Endpoint {
    async fn connect(&self, marks: Arc<Marks>) -> Result<Link, Failure> {
        let stream = TcpStream::connect(&*self.addresses).await.map_err(|e| connect_failure(&e))?;
        stream.set_nodelay(true).map_err(|e| connect_failure(&e))?;
        let stamped = Stamped::new(stream, Arc::clone(&marks), self.epoch);
        let socket = match &self.tls {
            None => Socket::Plain(stamped),
            Some(tls) => {
                let socket = tls.connect(stamped).await.map_err(|e| tls_failure(&e))?;
                marks.reset_reads();
                socket
            }
        };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(socket))
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
        traffic: &Traffic,
    ) -> Result<(), Failure> {
        let Self { sender, connection, marks, .. } = self;
        let marks = &**marks;
        let work = async {
            let response = sender.send_request(request).await.map_err(|e| http_failure(&e))?;
            if let Some(failure) = refusal(&response, answer) {
                return Err(match failure.text {
                    None => failure.saying(start_of(response.into_body()).await),
                    Some(_) => failure,
                });
            }
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| http_failure(&e))?;
                marks.frames.fetch_add(1, Relaxed);
                traffic.hear(marks.read_ns.load(Relaxed));
                if let Some(bytes) = frame.data_ref() {
                    answer
                        .push(bytes, marks.read_ns.load(Relaxed))
                        .map_err(|fault| Failure::new(fault.name()))?;
                }
            }
            Ok(())
        };
        alongside(connection, marks, work).await
    }

    /// Whether a byte of the answer has come.
    fn has_read(&self) -> bool {
        self.marks.first_read_ns.load(Relaxed) > 0
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

/// Why an answer is none, by its head.
fn refusal(response: &Response<Incoming>, answer: &Answer) -> Option<Failure> {
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if status.is_redirection() {
        let to = header(header::LOCATION).unwrap_or("nowhere");
        let text =
            format!("{} to {to}; a load follows no redirect: name that URL", status.as_u16());
        return Some(Failure::new("redirect").saying(text));
    }
    if !status.is_success() {
        return Some(Failure::new(format!("http_{}", status.as_u16())));
    }
    let is_wanted = answer.accepts(response.headers().get(header::CONTENT_TYPE));
    (!is_wanted).then(|| Failure::new("content_type"))
}

/// The first bytes of a body.
async fn start_of(mut body: Incoming) -> Box<str> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        if bytes.len() >= ERROR_BYTES_MAX {
            break;
        }
    }
    quoted(&bytes)
}

/// Polls work and the connection under it in one task. Two tasks would wake each other twice for
/// every piece of the answer.
async fn alongside<T>(
    connection: &mut Option<http1::Connection<TokioIo<Socket>, Full<Bytes>>>,
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
    connection: &mut Option<http1::Connection<TokioIo<Socket>, Full<Bytes>>>,
    cx: &mut Context<'_>,
) {
    if let Some(open) = connection
        && Pin::new(open).poll(cx).is_ready()
    {
        *connection = None;
    }
}

fn connect_failure(error: &io::Error) -> Failure {
    let name = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection_refused",
        io::ErrorKind::TimedOut => "connect_timeout",
        _ => "connect_failed",
    };
    Failure::new(name).saying(error.to_string())
}

fn tls_failure(error: &io::Error) -> Failure {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let name = match cause {
        Some(rustls::Error::InvalidCertificate(_)) => "tls_certificate",
        _ => "tls_failed",
    };
    Failure::new(name).saying(error.to_string())
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
    Failure::new(name)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
