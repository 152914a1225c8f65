//! `bench remote`: objects of a bucket or a folder that a team shares.
//!
//! It serves `xtask`, which decides what is asked and checks what comes: requests come in and
//! replies go out as JSON lines, many at once and in any order. It ends with its input.

mod failure;

use std::{
    env,
    io::{BufRead as _, Write as _},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bench_core::schema::{RemoteAsk, RemoteObject, RemoteOutcome, RemoteReply, RemoteRequest};
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt as _, PutMode, RetryConfig,
    aws::AmazonS3Builder, local::LocalFileSystem, path::Path as Name, prefix::PrefixStore,
};
use tokio::sync::{Semaphore, mpsc};

/// Requests in flight.
const CONCURRENCY: usize = 32;
/// An unreachable address says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one request with its content.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A service that is down for longer is not waited for: measuring goes on without it.
const RETRY: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    },
    max_retries: 3,
    retry_timeout: Duration::from_secs(15),
};

/// Fetch and make objects of a remote store, as JSON lines on standard input ask
///
/// Credentials, region and endpoint of S3 come from the environment (AWS_ACCESS_KEY_ID,
/// AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL and so on).
#[derive(Debug, clap::Args)]
pub(crate) struct RemoteArgs {
    /// s3://BUCKET/PREFIX or file:///FOLDER
    url: String,
}

/// Serves requests until its input ends.
pub(crate) fn run(args: &RemoteArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (sender, requests) = mpsc::unbounded_channel();
    // Reads whatever comes at once, so that who asks never waits for who is served.
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    runtime.block_on(serve(&args.url, requests))
}

async fn serve(url: &str, mut lines: mpsc::UnboundedReceiver<String>) -> Result<()> {
    // Told with each reply, since whoever asks hears nothing else.
    let remote = Arc::new(open(url).map_err(|error| format!("{error:#}")));
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    while let Some(line) = lines.recv().await {
        let request: RemoteRequest =
            serde_json::from_str(&line).with_context(|| format!("no request: {line}"))?;
        let place = Arc::clone(&places).acquire_owned().await.context("nobody closes it")?;
        let remote = Arc::clone(&remote);
        tokio::spawn(async move {
            let outcome = match &*remote {
                Ok(remote) => answer(&**remote, request.ask).await,
                Err(why) => Err(why.clone()),
            };
            let outcome = outcome.unwrap_or_else(|why| RemoteOutcome::Failed { why });
            reply(&RemoteReply { id: request.id, outcome });
            drop(place);
        });
    }
    // What is under way is finished: all places are free.
    let all = places.acquire_many(CONCURRENCY as u32).await;
    all.map(drop).context("nobody closes it")
}

/// Prints a reply. When nobody reads any more, the input ends too.
fn reply(reply: &RemoteReply) {
    let mut line = serde_json::to_vec(reply).expect("a reply is plain JSON");
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// The store that a URL names.
fn open(url: &str) -> Result<Box<dyn ObjectStore>> {
    if let Some(folder) = url.strip_prefix("file://") {
        // Not made here: it may be a file system that is not mounted.
        let store = LocalFileSystem::new_with_prefix(folder);
        return Ok(Box::new(
            store.ok().with_context(|| format!("no folder {folder}: make it, or mount it"))?,
        ));
    }
    let Some(rest) = url.strip_prefix("s3://") else {
        bail!("{url} is neither s3://BUCKET/PREFIX nor file:///FOLDER");
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    require_credentials()?;
    // Fails only when one has been installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let is_plain = |name| env::var(name).is_ok_and(|url| url.starts_with("http://"));
    let options = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(TIMEOUT)
        .with_allow_http(is_plain("AWS_ENDPOINT_URL") || is_plain("AWS_ENDPOINT"));
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(options)
        .with_retry(RETRY)
        .build()
        .map_err(|error| anyhow::anyhow!(failure::describe(&error)))?;
    Ok(Box::new(PrefixStore::new(store, prefix)))
}

/// Without any, the client would ask the metadata service of a cloud, which is not there on most
/// machines.
fn require_credentials() -> Result<()> {
    const SETS: [&[&str]; 5] = [
        &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        &["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"],
        &["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"],
        &["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
        &["AWS_SKIP_SIGNATURE"],
    ];
    let is_set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    if SETS.iter().any(|names| names.iter().all(is_set)) {
        return Ok(());
    }
    bail!("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

async fn answer(remote: &dyn ObjectStore, ask: RemoteAsk) -> Result<RemoteOutcome, String> {
    match ask {
        RemoteAsk::Fetch { name, to } => fetch(remote, &name, &to).await,
        RemoteAsk::Find { name } => find(remote, &name).await,
        RemoteAsk::Push { objects } => push(remote, &objects).await,
    }
}

async fn fetch(remote: &dyn ObjectStore, name: &str, to: &Path) -> Result<RemoteOutcome, String> {
    let content = match remote.get(&Name::from(name)).await {
        Ok(found) => found.bytes().await,
        Err(error) => Err(error),
    };
    match content {
        Ok(bytes) => {
            let written = std::fs::write(to, bytes);
            written.map_err(|error| format!("cannot write {}: {error}", to.display()))?;
            Ok(RemoteOutcome::There)
        }
        Err(error) if failure::is_absent(&error) => Ok(RemoteOutcome::Absent),
        Err(error) => Err(failure::describe(&error)),
    }
}

async fn find(remote: &dyn ObjectStore, name: &str) -> Result<RemoteOutcome, String> {
    match remote.head(&Name::from(name)).await {
        Ok(_) => Ok(RemoteOutcome::There),
        Err(error) if failure::is_absent(&error) => Ok(RemoteOutcome::Absent),
        Err(error) => Err(failure::describe(&error)),
    }
}

/// The last object says that those before it are there, so it is made last.
async fn push(remote: &dyn ObjectStore, objects: &[RemoteObject]) -> Result<RemoteOutcome, String> {
    let Some(last) = objects.last() else { return Ok(RemoteOutcome::There) };
    if find(remote, &last.name).await? == RemoteOutcome::There {
        return Ok(RemoteOutcome::There);
    }
    let mut outcome = RemoteOutcome::There;
    for RemoteObject { name, from } in objects {
        let bytes = std::fs::read(from);
        let bytes = bytes.map_err(|error| format!("cannot read {}: {error}", from.display()))?;
        outcome =
            match remote.put_opts(&Name::from(&**name), bytes.into(), PutMode::Create.into()).await
            {
                Ok(_) => RemoteOutcome::Made,
                // Another was faster, or broke off after this one.
                Err(Error::AlreadyExists { .. }) => RemoteOutcome::There,
                Err(error) => return Err(failure::describe(&error)),
            };
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests;
