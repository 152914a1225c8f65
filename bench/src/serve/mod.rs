//! `bench serve`: an OpenAI-compatible server without a model, which keeps an exact schedule and
//! says how well it kept it.

mod events;
mod fault;
mod generation;
mod http;
mod ledger;
mod request;
mod server;
mod simulator;
mod source;
mod wire;

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context as _;
use bench_core::{decimal::Decimal, schema::ArgValue, sim};
use hyper::{server::conn::http1, service::service_fn};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
};

use fault::{FaultPlan, FaultRate};
pub(crate) use ledger::Truth;
use server::{Options, Server};
use simulator::Simulator;
use wire::{Connection, Wire};

use crate::{host, timer::Timer};

/// Serve the OpenAI API without a model, on an exact schedule
///
/// The first line on stdout is {"listening":"HOST:PORT"}. On SIGTERM or SIGINT the last is
/// {"truth":…}, the server's own account of what it did, which GET /truth gives at any time.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Share the port with other servers of this user: connections are spread over them
    #[arg(long)]
    reuse_port: bool,
    /// Name in /v1/models; other names are refused. Without it any name will do
    #[arg(long, value_name = "NAME")]
    served_model_name: Option<String>,
    /// Longest prompt and output together, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 32_768)]
    max_model_len: u32,
    /// Simulate this engine in real time, such as bench/models/h100-qwen2.5-7b.json, in place of
    /// a schedule
    #[arg(long, value_name = "MODEL.json", conflicts_with_all = ["ttft_ms", "itl_ms", "max_model_len"])]
    model: Option<PathBuf>,
    /// Any flag of `vllm serve` for the simulated engine, such as max-num-seqs=256; may be repeated
    #[arg(long = "arg", value_name = "NAME=VALUE", requires = "model", value_parser = engine_arg)]
    engine_args: Vec<(String, ArgValue)>,
    /// From a request's arrival to its first token
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    ttft_ms: Decimal,
    /// From one token to the next; with 0 here and above tokens come as fast as they can
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    itl_ms: Decimal,
    /// Write tokens at whole multiples of --itl-ms alone, so that all streams are written to at once
    #[arg(long)]
    synchronised: bool,
    /// Tokens an event, after the first, which goes alone
    #[arg(long, value_name = "TOKENS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    stream_interval: u32,
    /// Most events a write; events that are not due are not waited for
    #[arg(long, value_name = "EVENTS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    events_per_write: u16,
    /// Stand still once, this long after the first request
    #[arg(long, value_name = "S", requires = "stall_for_s", value_parser = seconds)]
    stall_at_s: Option<Duration>,
    /// How long to stand still
    #[arg(long, value_name = "S", requires = "stall_at_s", value_parser = seconds)]
    stall_for_s: Option<Duration>,
    /// Fail a share of the requests on purpose, such as reset:0.01; may be repeated
    #[arg(long = "fault", value_name = "KIND:RATE")]
    faults: Vec<FaultRate>,
    /// Seed of the draw of faults
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    fault_seed: u64,
}

fn milliseconds(text: &str) -> Result<Decimal, String> {
    let ms: Decimal = text.parse()?;
    if ms < Decimal::default() { Err(format!("{ms} is negative")) } else { Ok(ms) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let s = milliseconds(text)?;
    Ok(Duration::from_micros(s.millionths().unsigned_abs()))
}

fn engine_arg(text: &str) -> Result<(String, ArgValue), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = match value {
        "true" => ArgValue::Bool(true),
        "false" => ArgValue::Bool(false),
        _ => value.parse().map_or_else(|_| ArgValue::Text(value.to_owned()), ArgValue::Int),
    };
    Ok((name.trim_start_matches("--").to_owned(), value))
}

impl Server {
    fn new(args: ServeArgs) -> anyhow::Result<(Self, Option<Simulator>)> {
        let started = args.model.as_ref().map(|path| start(path, &args.engine_args)).transpose()?;
        // A millionth of a millisecond is a nanosecond.
        let ns = |ms: Decimal| ms.millionths().unsigned_abs();
        let options = Options {
            served_model_name: args.served_model_name,
            max_model_len: match &started {
                Some(started) => started.settings().max_model_len,
                None => args.max_model_len,
            },
            ttft_ns: ns(args.ttft_ms),
            itl_ns: ns(args.itl_ms),
            is_synchronised: args.synchronised,
            stream_interval: args.stream_interval,
            events_per_write: usize::from(args.events_per_write),
            stall: args.stall_at_s.zip(args.stall_for_s),
        };
        let (simulator, engine) = started.as_ref().map(Simulator::new).unzip();
        let server = Self {
            options,
            timer: Arc::new(Timer::new().context("cannot make a timer")?),
            ledger: Arc::default(),
            faults: Mutex::new(FaultPlan::new(args.faults, args.fault_seed)),
            requests: AtomicU64::new(0),
            engine,
        };
        Ok((server, simulator))
    }
}

/// Starts a simulated engine.
fn start(path: &Path, args: &[(String, ArgValue)]) -> anyhow::Result<sim::Server> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let model: sim::Model = serde_json::from_str(&text)
        .with_context(|| format!("{} is no model of an engine", path.display()))?;
    sim::launch(&model, &args.iter().cloned().collect(), 0)
        .map_err(|failure| anyhow::anyhow!("the engine refuses: {}", failure.evidence.join("; ")))
}

/// A line on stdout.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "one of each in the life of a process")]
pub(crate) enum Line {
    Listening(SocketAddr),
    Truth(Truth),
}

fn print(line: &Line) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, line)?;
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    Ok(())
}

/// Runs `bench serve`.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(serve(args))
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    if let Err(error) = host::raise_open_files_limit() {
        eprintln!("warning: the limit on open files stays as it is: {error}");
    }
    let address = SocketAddr::new(args.host, args.port);
    let listener = listen(address, args.reuse_port)
        .with_context(|| format!("cannot listen on {address}: free the port, or use --port 0"))?;
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (server, simulator) = Server::new(args)?;
    let server = Arc::new(server);
    if let Some(simulator) = simulator {
        tokio::spawn(simulator.run(Arc::clone(&server.timer), Arc::clone(&server.ledger)));
    }
    print(&Line::Listening(listener.local_addr()?))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        failed = server.timer.run() => failed.context("the timer failed")?,
        () = accept(&listener, &server) => {}
    }
    print(&Line::Truth(server.ledger().truth()))
}

fn listen(address: SocketAddr, reuse_port: bool) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    if reuse_port {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    // A burst of ten thousand connections has to fit; the kernel cuts this to its own limit.
    socket.listen(16_384)
}

/// Accepts connections, for ever.
async fn accept(listener: &TcpListener, server: &Arc<Server>) {
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                eprintln!("warning: a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        if let Err(error) = socket.set_nodelay(true) {
            eprintln!("warning: a connection without TCP_NODELAY: {error}");
        }
        let wire = Arc::new(Wire::new(Arc::clone(&server.ledger)));
        let is_vectored = server.options.events_per_write > 1;
        let connection = Connection::new(socket, Arc::clone(&wire), is_vectored);
        let server = Arc::clone(server);
        let service = service_fn(move |request| {
            let (server, wire) = (Arc::clone(&server), Arc::clone(&wire));
            async move { Ok::<_, std::convert::Infallible>(http::answer(server, wire, request).await) }
        });
        tokio::spawn(async move {
            // A client that goes away is in the ledger; there is nobody to tell.
            let _ = http1::Builder::new().serve_connection(connection, service).await;
        });
    }
}
