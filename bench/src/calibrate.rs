//! `bench calibrate`: the load generator against a server that says what it really did.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bench_core::{
    INSTRUMENT_EPOCH,
    canonical::Digest,
    decimal::Decimal,
    hist::Latencies,
    schema::{
        Accuracy, Arrival, Calibration, Ceiling, Class, FORMAT, Host, LoadSpec, Observed, Pair,
        ServerEngine, ServerObservation, Size, Summary, Synchronised, TokenRange,
    },
    stats::median,
    workload::Workload,
};
use bench_trials::Recorder;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    client::{
        body::{Bodies, Dialect},
        connection::Target,
    },
    clock,
    drive::{Driven, Driver, Options},
    host,
    samples::{self, RecorderThread, SampleSender},
    serve::{Line, Truth},
};

const CEILING_STREAMS: [u32; 2] = [64, 512];
const CEILING_EVENTS_PER_WRITE: [u16; 2] = [1, 64];
const CEILING_OUTPUT_TOKENS: u32 = 128;
const RATES: [u32; 5] = [20, 100, 200, 400, 1_000];
const ACCURACY_OUTPUT_TOKENS: u32 = 64;
/// Streams that are written to at once, and the time between two writes: enough for the server to
/// write to all of them.
const SYNCHRONISED_STREAMS: [u32; 2] = [64, 512];
const SYNCHRONISED_ITL_MS: u64 = 50;
const INPUT_TOKENS: u32 = 8;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Measure the load generator itself: its ceiling, and its error by rate
///
/// Starts the null server on a core of its own and the client on another.
#[derive(Debug, clap::Args)]
pub(crate) struct CalibrateArgs {
    /// Also write the result to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result to a file, or do nothing if it holds one of this host and instrument
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    keep: Option<PathBuf>,
    /// Length of each run
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Runs of each ceiling, whose median is taken
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Core of the server
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: usize,
    /// Core of the client
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    client_core: usize,
    /// Measure only the ceiling by reader threads, such as 1,2,4,8, on all cores of this machine
    #[arg(long, value_name = "N,…", value_delimiter = ',', conflicts_with_all = ["json", "keep", "server_core", "client_core"], value_parser = clap::value_parser!(u32).range(1..=64))]
    reader_threads: Vec<u32>,
    /// Streams of the ceiling by reader threads
    #[arg(long, value_name = "N", default_value_t = 2_048, requires = "reader_threads", value_parser = clap::value_parser!(u32).range(1..))]
    streams: u32,
}

/// Runs `bench calibrate`.
pub(crate) fn run(args: &CalibrateArgs) -> anyhow::Result<()> {
    // Where it cannot be raised, requests fail, which is told.
    let _ = host::raise_open_files_limit();
    let host = host::identity();
    if args.keep.as_deref().is_some_and(|path| is_of(path, &host)) {
        return Ok(());
    }
    println!("{}, {} cores, {}", host.cpu, host.cpus, host.kernel);
    if !args.reader_threads.is_empty() {
        return by_reader_threads(args);
    }
    host::pin(None, &[args.client_core])
        .with_context(|| format!("cannot run on core {}: pass --client-core", args.client_core))?;
    let calibration = Calibration {
        format: FORMAT,
        instrument_epoch: INSTRUMENT_EPOCH,
        measured_at: clock::now_rfc3339(),
        host,
        ceilings: ceilings(args)?,
        accuracy: accuracy(args)?,
        synchronised: synchronised(args)?,
        memory_mib_max: host::memory_mib_max(),
    };
    if let Some(mib) = calibration.memory_mib_max {
        println!("\nmost memory {mib:.0} MiB");
    }
    if let Some(path) = args.json.as_ref().or(args.keep.as_ref()) {
        let text = serde_json::to_string_pretty(&calibration)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Whether a file holds a calibration of this host and instrument.
fn is_of(path: &Path, host: &Host) -> bool {
    let found = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    found.is_some_and(|found: Calibration| {
        found.format == FORMAT && found.instrument_epoch == INSTRUMENT_EPOCH && found.host == *host
    })
}

fn ceilings(args: &CalibrateArgs) -> anyhow::Result<Vec<Ceiling>> {
    println!("\nceiling: closed loop, {CEILING_OUTPUT_TOKENS} tokens a stream");
    println!("events a write  streams  tokens/s  tokens/CPU s  client CPU  server CPU");
    let mut ceilings = Vec::new();
    for events_per_write in CEILING_EVENTS_PER_WRITE {
        for streams in CEILING_STREAMS {
            let (ceiling, _) = ceiling(args, streams, events_per_write, 1, &[args.server_core])?;
            println!(
                "{events_per_write:>14}  {streams:>7}  {:>8.0}  {:>12.0}  {:>8.0} %  {:>8.0} %",
                ceiling.tokens_per_s,
                ceiling.tokens_per_cpu_s,
                100.0 * ceiling.client_cpu_share,
                100.0 * ceiling.server_cpu_share.unwrap_or(f64::NAN),
            );
            ceilings.push(ceiling);
        }
    }
    Ok(ceilings)
}

/// The ceiling by the number of threads that send and read. At least half of the cores are the servers', since
/// a null server takes more time for a token than a reader.
fn by_reader_threads(args: &CalibrateArgs) -> anyhow::Result<()> {
    let cores = host::cores().context("cannot tell which cores there are")?;
    println!(
        "\nceiling: closed loop, {} streams, {CEILING_OUTPUT_TOKENS} tokens a stream; CPU in cores",
        args.streams
    );
    println!(
        "events a write  readers  servers  tokens/s  tokens/CPU s  busiest reader  client CPU  server CPU"
    );
    let mut are_short = false;
    for events_per_write in CEILING_EVENTS_PER_WRITE {
        for readers in &args.reader_threads {
            let wanted = *readers as usize;
            // One core more for the thread that writes samples and the one that writes requests.
            let granted = (wanted + 1).min(cores.len() / 2).max(1);
            let (clients, servers) = cores.split_at(granted);
            let servers = if servers.is_empty() { clients } else { servers };
            let servers = &servers[..servers.len().min(2 * wanted)];
            host::pin(None, clients).context("cannot choose the cores of the client")?;
            let (found, busiest) =
                ceiling(args, args.streams, events_per_write, *readers, servers)?;
            println!(
                "{events_per_write:>14}  {readers:>7}  {:>7}  {:>8.0}  {:>12.0}  {busiest:>14.2}  {:>10.2}  {:>10.2}{}",
                servers.len(),
                found.tokens_per_s,
                found.tokens_per_cpu_s,
                found.client_cpu_share,
                found.server_cpu_share.unwrap_or(f64::NAN),
                if granted <= wanted { " *" } else { "" },
            );
            are_short |= granted <= wanted;
        }
    }
    if are_short {
        println!(
            "* no ceiling of N readers: they want N + 1 cores, and had half of {}",
            cores.len()
        );
    }
    Ok(())
}

/// The median of the repeats, each on servers of its own, and the busiest reader's share of a core.
fn ceiling(
    args: &CalibrateArgs,
    streams: u32,
    events_per_write: u16,
    reader_threads: u32,
    server_cores: &[usize],
) -> anyhow::Result<(Ceiling, f64)> {
    let runs: Vec<_> = (0..args.repeats)
        .map(|_| {
            let servers = NullServer::start_all(server_cores, events_per_write)?;
            let arrival = Arrival::ClosedLoop { concurrency: streams };
            let mut load = load(arrival, args.seconds, CEILING_OUTPUT_TOKENS);
            load.spec.reader_threads = Some(reader_threads);
            ceiling_once(servers, &load, streams, events_per_write)
        })
        .collect::<anyhow::Result<_>>()?;
    let middle = |value: fn(&(Ceiling, f64)) -> f64| {
        median(runs.iter().map(value).collect()).expect("`--repeats` is at least 1")
    };
    let ceiling = Ceiling {
        streams,
        events_per_write,
        tokens_per_s: middle(|(run, _)| run.tokens_per_s),
        tokens_per_cpu_s: middle(|(run, _)| run.tokens_per_cpu_s),
        client_cpu_share: middle(|(run, _)| run.client_cpu_share),
        server_cpu_share: runs
            .iter()
            .all(|(run, _)| run.server_cpu_share.is_some())
            .then(|| middle(|(run, _)| run.server_cpu_share.unwrap_or_default())),
    };
    Ok((ceiling, middle(|(_, busiest)| *busiest)))
}

fn ceiling_once(
    servers: Vec<NullServer>,
    load: &Workload,
    streams: u32,
    events_per_write: u16,
) -> anyhow::Result<(Ceiling, f64)> {
    let servers_cpu =
        || servers.iter().map(|server| host::cpu_time_of(server.pid)).sum::<Option<Duration>>();
    let (server_before, client_before) = (servers_cpu(), host::cpu_time());
    let (summary, driven) = drive(&servers[0], load)?;
    let client_cpu_s = (host::cpu_time() - client_before).as_secs_f64();
    let server_cpu_s =
        server_before.zip(servers_cpu()).map(|(before, after)| (after - before).as_secs_f64());
    for server in servers {
        server.stop()?;
    }
    anyhow::ensure!(
        summary.counts.failed.is_empty(),
        "requests to the null server failed: {:?}; raise the limit on open files",
        summary.counts.failed
    );
    let ceiling = Ceiling {
        streams,
        events_per_write,
        tokens_per_s: summary.output_tokens_per_s,
        tokens_per_cpu_s: summary.output_tokens as f64 / client_cpu_s,
        client_cpu_share: client_cpu_s / summary.duration_s,
        server_cpu_share: server_cpu_s.map(|cpu_s| cpu_s / summary.duration_s),
    };
    Ok((ceiling, driven.cpu_share))
}

fn accuracy(args: &CalibrateArgs) -> anyhow::Result<Vec<Accuracy>> {
    println!(
        "\nerror: open loop, TTFT 100 ms, ITL 10 ms, {ACCURACY_OUTPUT_TOKENS} tokens; client / server"
    );
    println!(
        "requests/s  arrived / planned       TTFT P50 ms       TTFT P99 ms       mean ITL ms  send lag P99 ms"
    );
    RATES
        .into_iter()
        .map(|rate| {
            let accuracy = accuracy_at(args, rate)?;
            let pair = |Pair { client, server }| format!("{client:.2} / {server:.2}");
            println!(
                "{rate:>10}  {:>17}  {:>16}  {:>16}  {:>16}  {:>15.3}  {}",
                format!("{} / {}", accuracy.arrived, accuracy.planned),
                pair(accuracy.ttft_p50_ms),
                pair(accuracy.ttft_p99_ms),
                pair(accuracy.itl_mean_ms),
                accuracy.send_lag_p99_ms,
                if accuracy.is_exact() { "exact" } else { "off" },
            );
            Ok(accuracy)
        })
        .collect()
}

fn accuracy_at(args: &CalibrateArgs, rate: u32) -> anyhow::Result<Accuracy> {
    let server = NullServer::start(args.server_core, "0", &["--ttft-ms", "100", "--itl-ms", "10"])?;
    let requests_per_second = Decimal::from_millionths(i64::from(rate) * 1_000_000);
    let load = load(Arrival::Poisson { requests_per_second }, args.seconds, ACCURACY_OUTPUT_TOKENS);
    let (summary, _) = drive(&server, &load)?;
    let truth = server.stop()?;
    Ok(Accuracy {
        requests_per_second: rate,
        planned: summary.counts.planned,
        arrived: truth.arrived,
        completed: summary.counts.completed,
        ttft_p50_ms: Pair { client: summary.ttft.p50_ms, server: truth.ttft.p50_ms },
        ttft_p99_ms: Pair { client: summary.ttft.p99_ms, server: truth.ttft.p99_ms },
        itl_mean_ms: Pair { client: summary.itl.mean_ms, server: truth.itl.mean_ms },
        send_lag_p99_ms: summary.send_lag.p99_ms,
    })
}

fn synchronised(args: &CalibrateArgs) -> anyhow::Result<Vec<Synchronised>> {
    println!(
        "\nall streams at once, every {SYNCHRONISED_ITL_MS} ms; after the token was due, client / server"
    );
    println!("streams      late P50 ms      late P99 ms      late max ms");
    SYNCHRONISED_STREAMS
        .into_iter()
        .map(|streams| {
            let found = synchronised_at(args, streams)?;
            let pair = |Pair { client, server }| format!("{client:.3} / {server:.3}");
            println!(
                "{streams:>7}  {:>15}  {:>15}  {:>15}",
                pair(found.late_p50_ms),
                pair(found.late_p99_ms),
                pair(found.late_max_ms),
            );
            Ok(found)
        })
        .collect()
}

fn synchronised_at(args: &CalibrateArgs, streams: u32) -> anyhow::Result<Synchronised> {
    let itl_ms = SYNCHRONISED_ITL_MS.to_string();
    let server = NullServer::start(
        args.server_core,
        "0",
        &["--ttft-ms", "1000", "--itl-ms", &itl_ms, "--synchronised"],
    )?;
    let tokens = args.seconds * 1_000 / SYNCHRONISED_ITL_MS as u32;
    let load = Workload::from(LoadSpec {
        size: Size::Requests(streams),
        ..load(Arrival::AllAtOnce {}, args.seconds, tokens).spec
    });
    let (samples, received) = samples::channel();
    // Samples wait in memory, since nothing else may run beside.
    let collected = std::thread::spawn(move || received.iter().flatten().collect::<Vec<_>>());
    let driven = driver(&server, &load, samples)?.run()?;
    let samples = collected.join().map_err(|_| anyhow::anyhow!("samples were lost"))?;
    let truth = server.stop()?;
    let mut late = Latencies::default();
    for sample in &samples {
        let came = sample.tokens.iter().map(|(at_ns, count)| (driven.start_ns + at_ns, *count));
        for (late_ns, count) in
            lateness_ns(&came.collect::<Vec<_>>(), SYNCHRONISED_ITL_MS * 1_000_000)
        {
            late.record_many_ns(late_ns, u64::from(count));
        }
    }
    let (client, server) = (late.quantiles(), truth.write_lateness);
    Ok(Synchronised {
        streams,
        late_p50_ms: Pair { client: client.p50_ms, server: server.p50_ms },
        late_p99_ms: Pair { client: client.p99_ms, server: server.p99_ms },
        late_max_ms: Pair { client: client.max_ms, server: server.max_ms },
    })
}

/// How late the tokens of one stream came, with how many came at once. They are due at multiples of
/// `gap_ns`, one after the other, from a multiple that is not known: the one by which the most punctual
/// token is less than a gap late.
fn lateness_ns(came: &[(u64, u32)], gap_ns: u64) -> Vec<(u64, u32)> {
    let mut index = 0;
    let since_first: Vec<(u64, u32)> = came
        .iter()
        .map(|(at_ns, count)| {
            let due_ns = index * gap_ns;
            index += u64::from(*count);
            (at_ns.saturating_sub(due_ns), *count)
        })
        .collect();
    let earliest_ns = since_first.iter().map(|(ns, _)| *ns).min().unwrap_or(0);
    let first_due_ns = earliest_ns / gap_ns * gap_ns;
    since_first.into_iter().map(|(ns, count)| (ns - first_due_ns, count)).collect()
}

fn load(arrival: Arrival, seconds: u32, output_tokens: u32) -> Workload {
    let class = Class {
        name: "calibration".to_owned(),
        share: Decimal::from_millionths(1_000_000),
        input_tokens: TokenRange { min: INPUT_TOKENS, max: INPUT_TOKENS },
        output_tokens: TokenRange { min: output_tokens, max: output_tokens },
        prefix: None,
    };
    let size = Size::DurationMs(u64::from(seconds) * 1_000);
    LoadSpec::drawn(arrival, size, vec![class], 1).into()
}

/// One load as a trial runs it, samples on disk included.
fn drive(server: &NullServer, load: &Workload) -> anyhow::Result<(Summary, Driven)> {
    let folder = Folder::new()?;
    let recorder = Recorder::create(&folder.0, &Digest::of(b"calibration"), load)?;
    let (recorder, samples) = RecorderThread::start(recorder)?;
    let driven = driver(server, load, samples)?.run()?;
    let (summarizer, _) = recorder.finish()?;
    let measured =
        summarizer.finish(&ServerObservation::default(), &Observed::default(), "calibration", None);
    Ok((measured.summary, driven))
}

/// What puts a load on the server, with requests as trials send them.
fn driver(server: &NullServer, load: &Workload, samples: SampleSender) -> anyhow::Result<Driver> {
    let engine = ServerEngine {
        base_url: format!("http://{}", server.address),
        model: "null".to_owned(),
        vocab_size: 32_000,
        api_key_env: None,
    };
    let bodies = Bodies::new(&engine, load, Dialect::Vllm, None);
    let target = tokio::runtime::Builder::new_current_thread()
        .build()?
        .block_on(Target::resolve(&engine.base_url, bodies.path(), &load.request.headers, None))?;
    let options = Options { request_timeout: REQUEST_TIMEOUT };
    Ok(Driver::new(target, load.clone(), bodies, options, samples, Arc::default()))
}

/// A folder that is gone when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = env::temp_dir().join(format!("bench-calibrate-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies in the system's folder for such things.
        let _ = fs::remove_dir_all(Path::new(&self.0));
    }
}

/// `bench serve` as a child process.
struct NullServer {
    child: Child,
    pid: Pid,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl NullServer {
    /// One a core, on one port among which the kernel spreads connections; the first is their address.
    fn start_all(cores: &[usize], events_per_write: u16) -> anyhow::Result<Vec<Self>> {
        let events = events_per_write.to_string();
        let mut servers: Vec<Self> = Vec::new();
        for core in cores {
            let port = servers.first().map_or("0", |first| {
                first.address.rsplit(':').next().expect("an address has a port")
            });
            let args = ["--events-per-write", &events, "--reuse-port"];
            servers.push(Self::start(*core, port, &args)?);
        }
        Ok(servers)
    }

    /// Port 0 is a free one.
    fn start(core: usize, port: &str, args: &[&str]) -> anyhow::Result<Self> {
        let program = env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .args(["serve", "--port", port])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the null server")?;
        let pid = Pid::from_child(&child);
        let stdout = BufReader::new(child.stdout.take().context("the server has no output")?);
        let mut server = Self { child, pid, stdout, address: String::new() };
        host::pin(Some(pid), &[core])
            .with_context(|| format!("cannot serve on core {core}: pass --server-core"))?;
        match server.line()? {
            Line::Listening(address) => server.address = address.to_string(),
            Line::Truth(_) => anyhow::bail!("the null server ended at once"),
        }
        Ok(server)
    }

    fn line(&mut self) -> anyhow::Result<Line> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("cannot read from the null server")?;
        serde_json::from_str(&line).context("the null server ended early")
    }

    fn stop(mut self) -> anyhow::Result<Truth> {
        kill_process(self.pid, Signal::TERM).context("cannot stop the null server")?;
        match self.line()? {
            Line::Truth(truth) => Ok(truth),
            Line::Listening(_) => anyhow::bail!("the null server gave no account"),
        }
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_be_later_than_the_next_is_due() {
        let on_time = [(100, 1), (150, 1), (200, 1)];
        assert_eq!(lateness_ns(&on_time, 50), [(0, 1), (0, 1), (0, 1)]);
        let falling_behind = [(103, 1), (170, 1), (330, 1), (410, 1)];
        assert_eq!(lateness_ns(&falling_behind, 50), [(3, 1), (20, 1), (130, 1), (160, 1)]);
        let in_one_read = [(101, 1), (260, 3), (262, 1)];
        assert_eq!(lateness_ns(&in_one_read, 50), [(51, 1), (160, 3), (12, 1)]);
        assert_eq!(lateness_ns(&[], 50), []);
    }
}
