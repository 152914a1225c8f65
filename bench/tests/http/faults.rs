//! Whatever fails is counted by its kind and flatters no figure.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use crate::common::{API_KEY, Server, plan, record, run_with};
use serde_json::{Value, json};

fn check<'a>(record: &'a Value, name: &str) -> &'a Value {
    let checks = record["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {record}"))
}

fn measured(server: &Server, args: &[&str], env: &[(&str, &str)], change: fn(&mut Value)) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let mut plan = plan(&server.1);
    change(&mut plan);
    let (stdout, stderr) = run_with(folder.path(), &plan, args, env);
    assert!(stdout.contains("\"trial\""), "{stdout} {stderr}");
    assert!(!stdout.contains(API_KEY) && !stderr.contains(API_KEY));
    record(&stdout)
}

/// One row of the table: what failed, how it was counted, three percentiles, and whether the check of failures
/// passed.
fn row(what: &str, record: &Value) -> String {
    let summary = &record["summary"];
    let failed = summary["counts"]["failed"].as_object().expect("counts by kind");
    let failed: Vec<_> = failed.iter().map(|(kind, count)| format!("{count} `{kind}`")).collect();
    let percentiles =
        [("ttft", "p50_ms"), ("ttft", "p90_ms"), ("e2e", "p99_ms")].map(|(latency, quantile)| {
            match summary[latency][quantile].as_f64() {
                Some(ms) => format!("{ms:.1} ms"),
                None => summary[latency][quantile].as_str().expect("a figure or words").to_owned(),
            }
        });
    format!(
        "| {what} | {} | {} | {} | {} |",
        summary["counts"]["completed"],
        if failed.is_empty() { "–".to_owned() } else { failed.join(", ") },
        percentiles.join(" | "),
        if check(record, "errors")["passed"] == true { "passed" } else { "failed: invalid trial" },
    )
}

/// Half of the 40 requests failed as `kind`, and no figure hides it.
fn half_failed(what: &str, record: &Value, kind: &str) {
    let summary = &record["summary"];
    let (completed, failed) = (&summary["counts"]["completed"], &summary["counts"]["failed"][kind]);
    let [completed, failed] = [completed, failed].map(|n| n.as_u64().unwrap_or_default());
    assert_eq!(completed + failed, 40, "{what}: {}", summary["counts"]);
    assert!((8..=32).contains(&failed), "{what}: {failed} of 40 failed");
    // From the failures' share on every percentile lies among them.
    for (latency, quantile) in [("ttft", "p90_ms"), ("e2e", "p95_ms"), ("tpot", "p99_ms")] {
        assert_eq!(summary[latency][quantile], "not reached", "{what}: {summary}");
    }
    assert!(summary["e2e"]["mean_ms"].is_f64());
    assert_eq!(check(record, "errors")["passed"], false, "{what}");
    let detail = check(record, "errors")["detail"].as_str().expect("a text");
    assert!(detail.contains(kind), "{detail}");
    if kind.starts_with("http_5") {
        assert!(detail.contains("failed on purpose"), "what the server said: {detail}");
    }
}

/// With `--nocapture` it prints the table of docs/trust.md.
#[test]
fn half_of_the_requests_fail_by_every_fault() {
    println!(
        "| half of 40 requests | completed | failed | TTFT P50 | TTFT P90 | E2E P99 | check `errors` |"
    );
    println!("|---|--:|---|--:|--:|--:|---|");
    let dead = "http://127.0.0.1:9";
    let proxies = ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"].map(|name| (name, dead));
    let mut harmless =
        vec![("none", "127.0.0.1", &[][..]), ("none; proxies are set", "127.0.0.1", &proxies)];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        harmless.push(("none; at `[::1]`", "::1", &[]));
    }
    for (what, host, env) in harmless {
        let record = measured(&Server::start(&["--host", host]), &[], env, |_| {});
        assert_eq!(record["summary"]["counts"]["completed"], 40, "{what}");
        assert_eq!(
            check(&record, "tokens-match")["passed"],
            true,
            "{what}: /metrics was read as well"
        );
        println!("{}", row(what, &record));
    }
    let faults = [
        ("http-429", "http_429"),
        ("http-500", "http_500"),
        ("http-503", "http_503"),
        ("reset", "connection_reset"),
        ("truncated", "connection_closed"),
        ("stalled-stream", "timeout"),
        ("short", "short_answer"),
        ("abort", "aborted"),
        ("error-event", "error_event"),
        ("malformed-event", "malformed_event"),
        ("half-utf8", "invalid_utf8"),
        ("endless-line", "too_long"),
        ("wrong-content-type", "content_type"),
    ];
    let row_of = |(fault, kind): &(&str, &str)| {
        let server = Server::start(&["--fault", &format!("{fault}:0.5")]);
        let timeout_s = if *kind == "timeout" { "1" } else { "60" };
        let record = measured(&server, &["--request-timeout-s", timeout_s], &[], |_| {});
        half_failed(fault, &record, kind);
        row(fault, &record)
    };
    // Several at once, since they wait more than they compute.
    thread::scope(|scope| {
        let lanes =
            faults.chunks(4).map(|lane| scope.spawn(move || lane.iter().map(&row_of).collect()));
        for lane in lanes.collect::<Vec<_>>() {
            let rows: Vec<String> = lane.join().expect("every fault is counted");
            rows.iter().for_each(|row| println!("{row}"));
        }
    });
    // So slow that each request needs a connection of its own.
    let server = Server::start(&["--ttft-ms", "400"]);
    for (what, bad, kind) in [
        ("TLS: another certificate", BadTls::Certificate, "tls_certificate"),
        ("TLS: no handshake", BadTls::Handshake, "tls_failed"),
    ] {
        let front = tls_before(&server, Some(bad));
        let folder = tempfile::tempdir().expect("a folder");
        let trust = front.trust(folder.path());
        let trust = [("SSL_CERT_FILE", trust.to_str().expect("UTF-8"))];
        let (stdout, stderr) = run_with(folder.path(), &plan(&front.url), &[], &trust);
        assert!(stdout.contains("\"trial\""), "{what}: {stdout} {stderr}");
        let record = record(&stdout);
        half_failed(what, &record, kind);
        println!("{}", row(what, &record));
    }
}

/// What is wrong with every second connection of a load.
#[derive(Clone, Copy)]
enum BadTls {
    /// It has a certificate that nobody trusts.
    Certificate,
    /// It is closed before the handshake.
    Handshake,
}

/// A server that speaks TLS. It lives as long as the process.
struct Front {
    url: String,
    certificate: String,
}

impl Front {
    /// Writes the certificate that is to be trusted.
    fn trust(&self, folder: &Path) -> PathBuf {
        let trusted = folder.join("trusted.pem");
        std::fs::write(&trusted, &self.certificate).expect("the folder is writable");
        trusted
    }
}

fn acceptor(made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> tokio_rustls::TlsAcceptor {
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .expect("a key");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

/// Passes TLS connections on to a server that speaks plain HTTP; every second but the first may be bad.
fn tls_before(server: &Server, bad: Option<BadTls>) -> Front {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let make =
        || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (made, other) = (make(), make());
    let (good, untrusted) = (acceptor(&made), acceptor(&other));
    let behind = server.1.trim_start_matches("http://").to_owned();
    let (sender, receiver) = std::sync::mpsc::channel::<SocketAddr>();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(async {
            let listener =
                tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            sender.send(listener.local_addr().expect("bound")).expect("the test waits");
            for number in 0_u64.. {
                let (stream, _) = listener.accept().await.expect("a client");
                let acceptor = match bad.filter(|_| number > 0 && number % 2 == 0) {
                    None => good.clone(),
                    Some(BadTls::Certificate) => untrusted.clone(),
                    Some(BadTls::Handshake) => continue,
                };
                let behind = behind.clone();
                tokio::spawn(async move {
                    // A client that does not trust it goes away.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut server =
                        tokio::net::TcpStream::connect(behind).await.expect("a server");
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
                });
            }
        });
    });
    let port = receiver.recv().expect("it starts").port();
    Front { url: format!("https://localhost:{port}"), certificate: made.cert.pem() }
}

#[test]
fn tls_is_spoken_with_those_who_are_trusted() {
    let server = Server::start(&[]);
    let front = tls_before(&server, None);
    let folder = tempfile::tempdir().expect("a folder");
    let trusted = front.trust(folder.path());
    let trust = [("SSL_CERT_FILE", trusted.to_str().expect("UTF-8"))];
    let (stdout, stderr) = run_with(folder.path(), &plan(&front.url), &[], &trust);
    assert!(stdout.contains("\"trial\""), "{stdout} {stderr}");
    assert_eq!(record(&stdout)["summary"]["counts"]["completed"], 40);

    let (stdout, stderr) = run_with(folder.path(), &plan(&front.url), &[], &[]);
    assert!(!stdout.contains("\"trial\""), "{stdout}");
    assert!(stderr.contains("certificate"), "{stderr}");
}

#[test]
fn figures_say_how_the_server_was_observed() {
    let server = Server::start(&["--stream-interval", "2"]);
    let record = measured(&server, &[], &[], |plan| {
        plan["trials"][0]["load"]["classes"][0]["output_tokens"] = json!({"min": 9, "max": 9});
    });
    let summary = &record["summary"];
    assert_eq!((&summary["output_tokens"], &summary["tokens_spread"]), (&json!(360), &json!(40)));
    assert!(summary["inter_chunk"]["count"].as_u64() < summary["itl"]["count"].as_u64());
    assert_eq!(check(&record, "tokens-match")["passed"], true);
    assert_eq!(check(&record, "prompt-tokens-match")["passed"], true);
    assert!(check(&record, "latency-match")["passed"].is_boolean());
    let warm_up = &record["observed"]["warm_up"];
    assert!(warm_up["rounds"].as_array().is_some_and(|rounds| rounds.len() >= 3), "{warm_up}");

    let exact = measured(&server, &[], &[], |plan| {
        let load = &mut plan["trials"][0]["load"];
        load["classes"][0]["output_tokens"] = json!({"min": 9, "max": 9});
        load["request"]["usage"] = json!("continuous");
    });
    assert_eq!(exact["summary"]["output_tokens"], 360);
    assert_eq!(exact["summary"].get("tokens_spread"), None, "each event says how many it holds");
}
