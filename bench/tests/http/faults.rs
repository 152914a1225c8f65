//! Whatever fails is counted by its kind and flatters no figure.

use std::{net::SocketAddr, sync::Arc};

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

#[test]
fn half_of_the_requests_fail_by_every_fault() {
    for (fault, kind) in [
        ("reset", "connection_reset"),
        ("http-429", "http_429"),
        ("http-500", "http_500"),
        ("http-503", "http_503"),
        ("malformed-event", "malformed_event"),
        ("half-utf8", "invalid_utf8"),
        ("endless-line", "too_long"),
        ("wrong-content-type", "content_type"),
        ("stalled-stream", "timeout"),
        ("error-event", "error_event"),
        ("truncated", "connection_closed"),
        ("short", "short_answer"),
        ("abort", "aborted"),
    ] {
        let server = Server::start(&["--fault", &format!("{fault}:0.5")]);
        let record = measured(&server, &["--request-timeout-s", "1"], &[], |_| {});
        let summary = &record["summary"];
        let (completed, failed) =
            (&summary["counts"]["completed"], &summary["counts"]["failed"][kind]);
        let [completed, failed] = [completed, failed].map(|n| n.as_u64().unwrap_or_default());
        assert_eq!(completed + failed, 40, "{fault}: {}", summary["counts"]);
        assert!((8..=32).contains(&failed), "{fault}: {failed} of 40 failed");
        // From the failures' share on every percentile lies among them.
        for (latency, quantile) in [("ttft", "p90_ms"), ("e2e", "p95_ms"), ("tpot", "p99_ms")] {
            assert_eq!(summary[latency][quantile], "not reached", "{fault}: {summary}");
        }
        assert!(summary["e2e"]["mean_ms"].is_f64());
        assert_eq!(check(&record, "errors")["passed"], false, "{fault}");
        let detail = check(&record, "errors")["detail"].as_str().expect("a text");
        assert!(detail.contains(kind), "{detail}");
        if kind.starts_with("http_5") {
            assert!(detail.contains("failed on purpose"), "what the server said: {detail}");
        }
    }
}

#[test]
fn a_proxy_in_the_environment_is_not_used() {
    let server = Server::start(&[]);
    let dead = "http://127.0.0.1:9";
    let proxies = ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"].map(|name| (name, dead));
    let record = measured(&server, &[], &proxies, |_| {});
    assert_eq!(record["summary"]["counts"]["completed"], 40);
    assert_eq!(check(&record, "tokens-match")["passed"], true, "/metrics was read as well");
}

#[test]
fn an_ipv6_address_is_a_host() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let server = Server::start(&["--host", "::1"]);
    assert!(server.1.starts_with("http://[::1]:"), "{}", server.1);
    assert_eq!(measured(&server, &[], &[], |_| {})["summary"]["counts"]["completed"], 40);
}

/// Passes TLS connections on to a server that speaks plain HTTP; gives its own address and certificate.
/// It lives as long as the process.
fn tls_before(server: &Server) -> (SocketAddr, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a key");
    let certificate = made.cert.pem();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .expect("a key");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let behind = server.1.trim_start_matches("http://").to_owned();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(async {
            let listener =
                tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            sender.send(listener.local_addr().expect("bound")).expect("the test waits");
            loop {
                let (stream, _) = listener.accept().await.expect("a client");
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
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
    (receiver.recv().expect("it starts"), certificate)
}

#[test]
fn tls_is_spoken_with_those_who_are_trusted() {
    let server = Server::start(&[]);
    let (address, certificate) = tls_before(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, certificate).expect("the folder is writable");
    let url = format!("https://localhost:{}", address.port());
    let trust = [("SSL_CERT_FILE", trusted.to_str().expect("UTF-8"))];
    let (stdout, stderr) = run_with(folder.path(), &plan(&url), &[], &trust);
    assert!(stdout.contains("\"trial\""), "{stdout} {stderr}");
    assert_eq!(record(&stdout)["summary"]["counts"]["completed"], 40);

    let (stdout, stderr) = run_with(folder.path(), &plan(&url), &[], &[]);
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
