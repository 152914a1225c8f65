//! The least that a client can do: keeps streams open through hyper and counts events. Its rate
//! is the ceiling of any client that goes through hyper.
//!
//! `bare ADDRESS STREAMS SECONDS`, such as `bare 127.0.0.1:8000 64 5`; prints one JSON object.

use std::{
    error::Error,
    net::SocketAddr,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::LocalSet};

// Streams as `bench run` asks for them: with the count of tokens at their end.
const BODY: &str = r#"{"prompt":[1,2,3,4,5,6,7,8],"max_tokens":128,"stream":true,"ignore_eos":true,"stream_options":{"include_usage":true}}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, streams, seconds] = &args[..] else {
        return Err("expected ADDRESS STREAMS SECONDS".into());
    };
    let address: SocketAddr = address.parse()?;
    let (streams, seconds): (usize, u64) = (streams.parse()?, seconds.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let events = Rc::new(AtomicU64::new(0));
    let start = Instant::now();
    LocalSet::new().block_on(&runtime, async {
        for _ in 0..streams {
            let events = Rc::clone(&events);
            tokio::task::spawn_local(async move {
                if let Err(error) = drive(address, &events).await {
                    eprintln!("a stream failed: {error}");
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    });
    let (elapsed_s, events) = (start.elapsed().as_secs_f64(), events.load(Ordering::Relaxed));
    // The last two events of each answer, usage and [DONE], carry no token.
    let tokens = events as f64 * 128.0 / 130.0;
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu_s = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    println!(
        r#"{{"tokens_per_s":{:.0},"tokens_per_cpu_s":{:.0},"cpu_share":{:.3}}}"#,
        tokens / elapsed_s,
        tokens / cpu_s,
        cpu_s / elapsed_s
    );
    Ok(())
}

async fn drive(address: SocketAddr, events: &AtomicU64) -> Result<(), Box<dyn Error>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::task::spawn_local(connection);
    loop {
        let request = Request::post("/v1/completions")
            .header(HOST, address.to_string())
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))?;
        let mut body = sender.send_request(request).await?.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                let found = memchr::memmem::find_iter(&data, b"data: ").count();
                events.fetch_add(found as u64, Ordering::Relaxed);
            }
        }
        sender.ready().await?;
    }
}
