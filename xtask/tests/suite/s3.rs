//! A remote store on a real S3 server with authentication: moto, installed by uv. CI runs these
//! (`.ci/run`): `cargo test --workspace --test suite s3 -- --ignored`.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, OnceLock},
};

use super::{
    remote::{Clone, moved, warning, warnings},
    *,
};

const BUCKET: &str = "team";

/// Ends a process that the test started.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The interpreter that has moto: installed once, kept beside the tests' programs.
fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("moto");
        let python = target.join("bin/python");
        let program = find_uv();
        let uv = |args: &[&str]| {
            let status = Command::new(&program).args(args).status().expect("uv runs");
            assert!(status.success(), "uv {args:?}");
        };
        let (folder, path) = (target.to_string_lossy(), python.to_string_lossy());
        if !target.join("bin/moto_server").exists() {
            uv(&["venv", "--quiet", "--clear", &folder]);
        }
        let moto = "moto[s3]==5.2.5";
        uv(&["pip", "install", "--quiet", "--python", &path, moto, "flask", "flask-cors"]);
        python
    })
}

/// uv on the path, or one that pip installs beside the tests' programs.
fn find_uv() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("uv");
    let runs = |uv: &PathBuf| {
        let version = Command::new(uv).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    let candidates = [PathBuf::from("uv"), folder.join("bin/uv")];
    if let Some(uv) = candidates.iter().find(|uv| runs(uv)) {
        return uv.clone();
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&folder).arg("uv");
    assert!(pip.status().expect("python3 runs").success(), "pip installs uv");
    folder.join("bin/uv")
}

/// A bucket, and a key for those who may use it: the four calls that moto takes without one.
const SET_UP: &str = r#"
import boto3, json, sys
def client(service):
    return boto3.client(service, endpoint_url=sys.argv[1], region_name="us-east-1",
                        aws_access_key_id="x", aws_secret_access_key="x")
client("s3").create_bucket(Bucket=sys.argv[2])
iam = client("iam")
iam.create_user(UserName="colleague")
allow = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
iam.put_user_policy(UserName="colleague", PolicyName="share",
                    PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
key = iam.create_access_key(UserName="colleague")["AccessKey"]
print(key["AccessKeyId"], key["SecretAccessKey"])
"#;

/// `ls` | `cut NAME` | `flip NAME` | `rm NAME`: what the owner of a bucket may do to it.
const OWNER: &str = r#"
import boto3, os, sys
s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
bucket, verb, *name = sys.argv[1:]
if verb == "ls":
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for page in pages:
        for each in page.get("Contents", []):
            print(each["Key"], each["ETag"])
elif verb == "rm":
    s3.delete_object(Bucket=bucket, Key=name[0])
else:
    body = bytearray(s3.get_object(Bucket=bucket, Key=name[0])["Body"].read())
    if verb == "flip":
        body[len(body) // 2] ^= 1
    else:
        body = body[:len(body) // 2]
    s3.put_object(Bucket=bucket, Key=name[0], Body=bytes(body))
"#;

/// A server with a bucket, and what a colleague's environment holds.
struct Server {
    process: Arc<Mutex<Ending>>,
    address: SocketAddr,
    env: Vec<(String, String)>,
}

impl Server {
    fn start() -> Self {
        let moto = python().with_file_name("moto_server");
        let mut command = Command::new(moto);
        command.args(["-H", "127.0.0.1", "-p", "0"]).env("INITIAL_NO_AUTH_ACTION_COUNT", "4");
        let mut process = Ending(command.stderr(Stdio::piped()).spawn().expect("it starts"));
        let mut lines = BufReader::new(process.0.stderr.take().expect("it is piped")).lines();
        let address = loop {
            let line = lines.next().expect("it says where it listens").expect("text");
            if let Some((_, address)) = line.split_once("Running on http://") {
                break address.trim().parse().expect("an address");
            }
        };
        // It writes a line for each request.
        thread::spawn(move || lines.for_each(drop));
        let process = Arc::new(Mutex::new(process));
        let url = format!("http://{address}");
        let set_up = ["-c", SET_UP, &url, BUCKET];
        let output = Command::new(python()).args(set_up).output().expect("it starts");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        let (id, secret) = said.trim().split_once(' ').expect("a key");
        let env = [
            ("AWS_ENDPOINT_URL", &*url),
            ("AWS_ACCESS_KEY_ID", id),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_REGION", "us-east-1"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { process, address, env }
    }

    fn clone_of(&self, prefix: &str) -> Clone {
        let mut clone = Clone::new(&format!("s3://{BUCKET}/{prefix}"));
        clone.env.clone_from(&self.env);
        clone
    }

    fn owner(&self, args: &[&str]) -> String {
        let mut command = Command::new(python());
        command.args([&["-c", OWNER, BUCKET][..], args].concat()).envs(self.env.iter().cloned());
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Names of the objects of a kind, in order.
    fn names(&self, of: &str) -> Vec<String> {
        let names = self.owner(&["ls"]);
        let names = names.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned()));
        names.filter(|name| name.contains(of)).collect()
    }
}

/// An address that passes on what goes to the server, and kills the server once it has sent so many
/// bytes.
fn killing_after(server: &Server, bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let here = listener.local_addr().expect("it listens");
    let (there, process) = (server.address, Arc::clone(&server.process));
    let left = Arc::new(Mutex::new(bytes));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(there) else { continue };
            let pair = |a: &TcpStream, b: &TcpStream| {
                (a.try_clone().expect("it is open"), b.try_clone().expect("it is open"))
            };
            let (from, to) = pair(&client, &server);
            thread::spawn(move || pass(from, to, |_| true));
            let (left, process) = (Arc::clone(&left), Arc::clone(&process));
            thread::spawn(move || {
                pass(server, client, |count| {
                    let mut left = left.lock().expect("no thread panics with the lock");
                    *left = left.saturating_sub(count);
                    if *left == 0 {
                        let mut process = process.lock().expect("no thread panics with the lock");
                        let _ = process.0.kill();
                        let _ = process.0.wait();
                    }
                    *left > 0
                });
            });
        }
    });
    here
}

/// Passes bytes on while `goes_on` says so, and then closes both ends.
fn pass(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(usize) -> bool) {
    let mut buffer = [0; 4096];
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
        && goes_on(count)
        && to.write_all(&buffer[..count]).is_ok()
    {}
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
#[ignore = "installs an S3 server"]
fn s3_serves_a_second_clone_and_every_failure_is_one_warning() {
    let server = Server::start();
    let first = server.clone_of("trials");
    let output = first.suite(true);
    assert!(warnings(&output).is_empty(), "{output}");
    let trials = first.project.stored_trials();
    assert_eq!((moved(&output), first.measured()), ((0, trials), trials));
    let written = server.owner(&["ls"]);

    let second = server.clone_of("trials");
    let output = second.suite(false);
    assert!(warnings(&output).is_empty(), "{output}");
    assert_eq!((moved(&output), second.measured()), ((trials, 0), 0));
    assert_eq!(second.project.results(), first.project.results());

    // A warning, everything measured, the same bytes.
    let fails = |clone: &Clone, why: &str| {
        let output = clone.suite(true);
        assert!(warning(&output).contains(why), "{output}");
        assert_eq!((moved(&output), clone.measured()), ((0, 0), trials), "{why}");
        assert_eq!(clone.project.results(), first.project.results(), "{why}");
    };
    let set = |clone: &mut Clone, name: &str, value: &str| {
        clone.env.push((name.to_owned(), value.to_owned()));
    };
    let mut clone = server.clone_of("trials");
    set(&mut clone, "AWS_SECRET_ACCESS_KEY", "wrong");
    fails(&clone, "refuses these credentials");
    let mut clone = server.clone_of("trials");
    set(&mut clone, "AWS_ACCESS_KEY_ID", "AKIAWRONG");
    fails(&clone, "refuses these credentials");
    let mut clone = server.clone_of("trials");
    set(&mut clone, "AWS_ACCESS_KEY_ID", "");
    fails(&clone, "no credentials");
    let mut clone = server.clone_of("trials");
    clone.url = "s3://nobodys/trials".to_owned();
    fails(&clone, "no such bucket");
    assert_eq!(server.owner(&["ls"]), written);
}

#[test]
#[ignore = "installs an S3 server"]
fn s3_objects_that_are_damaged_are_measured_and_left() {
    let server = Server::start();
    let first = server.clone_of("");
    first.suite(true);
    let trials = first.project.stored_trials();
    for (verb, name) in [
        ("flip", server.names("blobs/")[0].clone()),
        ("cut", server.names("blobs/")[1].clone()),
        ("flip", server.names("actions/")[0].clone()),
        ("cut", server.names("actions/")[1].clone()),
    ] {
        server.owner(&[verb, &name]);
        let damaged = server.owner(&["ls"]);
        let clone = server.clone_of("");
        let output = clone.suite(true);
        assert!(warning(&output).contains(&format!("{name} is damaged")), "{output}");
        let measured = clone.measured();
        assert!((1..=2).contains(&measured), "{verb} {name}: {measured}");
        assert_eq!(moved(&output), (trials - measured, 0));
        assert_eq!(clone.project.results(), first.project.results());
        assert_eq!(server.owner(&["ls"]), damaged, "what is there is not replaced");
        // The first clone has it still, and writes it again once it is gone.
        server.owner(&["rm", &name]);
        for record in server.names("actions/") {
            server.owner(&["rm", &record]);
        }
        assert_eq!(moved(&first.suite(true)), (0, trials));
    }
}

#[test]
#[ignore = "installs an S3 server"]
fn s3_may_vanish_at_any_moment() {
    let server = Server::start();
    let first = server.clone_of("trials");
    first.suite(true);
    let trials = first.project.stored_trials();
    for (bytes, is_ci) in [(1, false), (20_000, false), (60_000, false), (2_000, true)] {
        let server = Server::start();
        let filled = server.clone_of("trials");
        if !is_ci {
            filled.suite(true);
        }
        let mut clone = server.clone_of("trials");
        let address = killing_after(&server, bytes);
        clone.env.push(("AWS_ENDPOINT_URL".to_owned(), format!("http://{address}")));
        let output = clone.suite(is_ci);
        assert!(warning(&output).contains("is left alone for the rest of this run"), "{output}");
        let (fetched, _) = moved(&output);
        assert_eq!(fetched + clone.measured(), trials, "after {bytes} bytes");
        assert_eq!(clone.project.results(), first.project.results(), "after {bytes} bytes");
    }
}

#[test]
#[ignore = "installs an S3 server"]
fn s3_takes_what_two_write_at_once() {
    let server = Server::start();
    let clones = [server.clone_of("trials"), server.clone_of("trials")];
    let mut running = Vec::new();
    for clone in &clones {
        let mut command = clone.command(&["suite", "--profile", "test"]);
        command.env("CI", "true").stdout(Stdio::piped()).stderr(Stdio::piped());
        running.push(command.spawn().expect("the program runs"));
    }
    let mut made = 0;
    for child in running {
        let output = remote::text(&child.wait_with_output().expect("it ends"));
        assert!(warnings(&output).is_empty(), "{output}");
        made += moved(&output).1;
    }
    let third = server.clone_of("trials");
    let output = third.suite(false);
    let trials = third.project.stored_trials();
    assert_eq!((moved(&output), third.measured()), ((trials, 0), 0));
    assert_eq!(made, trials, "each was made by one of the two");
    for clone in &clones {
        assert_eq!(clone.project.results(), third.project.results());
    }
}
