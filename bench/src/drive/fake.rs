//! A server scripted byte by byte.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the server does with one request, in order.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Writes bytes, in one piece.
    Write(Vec<u8>),
    /// Writes the same bytes until the client is gone.
    WriteForever(Vec<u8>),
    /// Waits until so many requests have come, this one included.
    Await(usize),
    /// Does nothing until the client closes the connection.
    Hang,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

/// The server; it lives as long as the process.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    /// Connections accepted so far.
    pub(super) connections: Arc<AtomicUsize>,
}

impl Fake {
    /// Answers the n-th request to come, from 0, with the steps of `script(n)`.
    pub(super) fn start(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = std::sync::mpsc::channel();
        let accepted = Arc::clone(&connections);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
                .expect("a runtime starts");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
                sender.send(listener.local_addr().expect("bound")).expect("the test waits");
                let (script, requests) = (Arc::new(script), Arc::new(watch::channel(0_usize).0));
                loop {
                    let (stream, _) = listener.accept().await.expect("the client connects");
                    accepted.fetch_add(1, SeqCst);
                    tokio::spawn(converse(stream, Arc::clone(&script), Arc::clone(&requests)));
                }
            });
        });
        Self { address: receiver.recv().expect("the server starts"), connections }
    }
}

async fn converse(
    mut stream: TcpStream,
    script: Arc<impl Fn(usize) -> Vec<Step>>,
    requests: Arc<watch::Sender<usize>>,
) {
    while read_request(&mut stream).await.is_some() {
        let mut number = 0;
        requests.send_modify(|count| {
            number = *count;
            *count += 1;
        });
        for step in script(number) {
            match step {
                Step::Write(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::WriteForever(bytes) => while stream.write_all(&bytes).await.is_ok() {},
                Step::Await(count) => {
                    let mut requests = requests.subscribe();
                    requests.wait_for(|n| *n >= count).await.expect("the sender lives");
                }
                Step::Hang => {
                    let _ = stream.read(&mut [0]).await;
                    return;
                }
                Step::Close => return,
                Step::Reset => {
                    stream.set_zero_linger().expect("the socket is open");
                    return;
                }
            }
        }
    }
}

/// Reads one request with its body; `None` when the client has closed the connection.
async fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// The head of a streamed answer.
pub(super) fn stream_head() -> Step {
    Step::Write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec(),
    )
}

/// One piece of a chunked body.
pub(super) fn chunk(bytes: &[u8]) -> Step {
    Step::Write([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}

/// An event with one token, the `n`-th.
pub(super) fn token(n: u32) -> Vec<u8> {
    format!(
        "data: {{\"id\":\"cmpl-1\",\"choices\":[{{\"index\":0,\"text\":\" a\",\"finish_reason\":null}}],\"usage\":{{\"prompt_tokens\":4,\"completion_tokens\":{n}}}}}\n\n"
    )
    .into_bytes()
}

/// A good answer of two tokens.
pub(super) fn good() -> Vec<Step> {
    let last = b"data: {\"choices\":[{\"index\":0,\"text\":\" b\",\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    vec![stream_head(), chunk(&token(1)), chunk(last), chunk(b"")]
}
