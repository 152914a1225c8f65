//! GPUs, as `nvidia-smi` shows them: who they are, who uses them, and a lock on each.

use std::{
    env, fmt,
    fs::{self, File, TryLockError},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// What a driver keeps of a GPU that nobody uses, with room for its error pages.
const IDLE_USE_MIB_MAX: u64 = 1_024;

/// How long the memory of an ended server may take to come back.
const RETURN_LIMIT: Duration = Duration::from_secs(60);

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gpu {
    pub(super) index: u32,
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) memory_used_mib: u64,
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, name, driver, memory_used_mib, .. } = self;
        write!(f, "{index}: {name}, driver {driver}, {memory_used_mib} MiB in use")
    }
}

/// A process that uses a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    uuid: String,
    pid: u32,
    name: String,
    memory_mib: Option<u64>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}, ", self.name, self.pid)?;
        match self.memory_mib {
            Some(mib) => write!(f, "{mib} MiB)"),
            None => f.write_str("size unknown)"),
        }
    }
}

/// The GPUs with these indices.
pub(super) fn query(indices: &[u32]) -> Result<Vec<Gpu>> {
    if indices.is_empty() {
        return Ok(Vec::new());
    }
    let fields = "--query-gpu=index,uuid,name,driver_version,memory.used";
    let all = parse_gpus(&nvidia_smi(fields)?)?;
    indices
        .iter()
        .map(|index| {
            all.iter().find(|gpu| gpu.index == *index).cloned().with_context(|| {
                format!("no GPU {index} here; `nvidia-smi -L` lists what there is")
            })
        })
        .collect()
}

/// The first GPU of this machine, in words; `None` where `nvidia-smi` finds none.
pub fn first() -> Option<String> {
    query(&[0]).ok()?.first().map(Gpu::to_string)
}

/// Refuses GPUs that others use, with their names and sizes.
pub(super) fn ensure_free(gpus: &[Gpu]) -> Result<()> {
    if gpus.is_empty() {
        return Ok(());
    }
    let users =
        parse_users(&nvidia_smi("--query-compute-apps=gpu_uuid,pid,process_name,used_memory")?);
    for gpu in gpus {
        let theirs: Vec<_> =
            users.iter().filter(|user| user.uuid == gpu.uuid).map(User::to_string).collect();
        ensure!(
            theirs.is_empty(),
            "GPU {} is used by {}; end them or choose another with `gpus`",
            gpu.index,
            theirs.join(", ")
        );
        // In a container, processes outside it use memory but are not listed.
        ensure!(
            gpu.memory_used_mib <= IDLE_USE_MIB_MAX,
            "{} MiB of GPU {} are used by a process that is not visible here; end it or choose \
             another with `gpus`",
            gpu.memory_used_mib,
            gpu.index
        );
    }
    Ok(())
}

/// Waits until an ended server's memory is back.
pub(super) fn await_memory(gpus: &[Gpu]) -> Result<()> {
    let indices: Vec<_> = gpus.iter().map(|gpu| gpu.index).collect();
    let start = Instant::now();
    loop {
        let now = query(&indices)?;
        let Some(busy) = now.iter().find(|gpu| gpu.memory_used_mib > IDLE_USE_MIB_MAX) else {
            return Ok(());
        };
        if start.elapsed() > RETURN_LIMIT {
            bail!(
                "{} MiB of GPU {} are still in use {} s after the server has ended; look at \
                 `nvidia-smi`",
                busy.memory_used_mib,
                busy.index,
                RETURN_LIMIT.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Locks each GPU against other runs of ours, in any checkout, until the files are dropped.
pub(super) fn lock(gpus: &[Gpu]) -> Result<Vec<File>> {
    let folder = env::var_os("XDG_RUNTIME_DIR").map_or_else(env::temp_dir, PathBuf::from);
    // Always in the same order, so that two runs cannot each hold what the other waits for.
    let mut uuids: Vec<_> = gpus.iter().map(|gpu| (&gpu.uuid, gpu.index)).collect();
    uuids.sort_unstable();
    uuids
        .into_iter()
        .map(|(uuid, index)| {
            let path = folder.join(format!("vllm-bench-{uuid}.lock"));
            let file = fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => Ok(file),
                Err(TryLockError::WouldBlock) => bail!(
                    "another run measures on GPU {index} (lock {}); wait for it or choose another \
                     with `gpus`",
                    path.display()
                ),
                Err(TryLockError::Error(e)) => {
                    Err(e).with_context(|| format!("cannot lock {}", path.display()))
                }
            }
        })
        .collect()
}

/// Driver version and GPU UUIDs without starting a process, where the driver shows them.
pub(super) fn fingerprint() -> Option<String> {
    let mut text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let mut uuids: Vec<String> = fs::read_dir("/proc/driver/nvidia/gpus")
        .ok()?
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.ok()?.path().join("information")).ok()?;
            text.lines().find(|line| line.starts_with("GPU UUID:")).map(str::to_owned)
        })
        .collect();
    uuids.sort_unstable();
    text.push_str(&uuids.join("\n"));
    Some(text)
}

fn nvidia_smi(query: &str) -> Result<String> {
    let output = duct::cmd("nvidia-smi", [query, "--format=csv,noheader,nounits"])
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .run()
        .context("cannot start nvidia-smi, which a profile with `gpus` needs")?;
    ensure!(
        output.status.success(),
        "nvidia-smi failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stdout).trim()
    );
    String::from_utf8(output.stdout).context("nvidia-smi did not print UTF-8")
}

fn parse_gpus(csv: &str) -> Result<Vec<Gpu>> {
    csv.lines()
        .map(|line| {
            let parse = || {
                let [index, uuid, name, driver, used] = fields(line)?;
                Some(Gpu {
                    index: index.parse().ok()?,
                    uuid: uuid.to_owned(),
                    name: name.to_owned(),
                    driver: driver.to_owned(),
                    memory_used_mib: used.parse().ok()?,
                })
            };
            parse().with_context(|| format!("nvidia-smi printed an unknown line: {line}"))
        })
        .collect()
}

fn parse_users(csv: &str) -> Vec<User> {
    csv.lines()
        .filter_map(|line| {
            let [uuid, pid, name, memory] = fields(line)?;
            Some(User {
                uuid: uuid.to_owned(),
                pid: pid.parse().ok()?,
                name: name.to_owned(),
                memory_mib: memory.parse().ok(),
            })
        })
        .collect()
}

fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    line.split(", ").map(str::trim).collect::<Vec<_>>().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // As driver 580.159.04 prints them.
    const GPUS: &str =
        "0, GPU-89d855d1-64f9-99ee-1cc0-7b26ade1e341, NVIDIA H100 80GB HBM3, 580.159.04, 0\n";
    const USERS: &str = "GPU-89d855d1-64f9-99ee-1cc0-7b26ade1e341, 434, python3, 4706\n";

    #[test]
    fn nvidia_smi_is_read() {
        let gpus = parse_gpus(GPUS).expect("it is well formed");
        assert_eq!(gpus.len(), 1);
        assert_eq!(gpus[0].name, "NVIDIA H100 80GB HBM3");
        assert_eq!(gpus[0].driver, "580.159.04");
        assert_eq!(parse_users(USERS)[0].to_string(), "python3 (pid 434, 4706 MiB)");
        assert_eq!(parse_users("GPU-1, 7, x, [N/A]")[0].to_string(), "x (pid 7, size unknown)");
        assert!(parse_users("").is_empty());
        assert!(parse_gpus("No devices were found").is_err());
    }

    #[test]
    fn a_gpu_is_locked_once() {
        let gpu = Gpu {
            index: 0,
            uuid: format!("test-{}", std::process::id()),
            name: String::new(),
            driver: String::new(),
            memory_used_mib: 0,
        };
        let held = lock(std::slice::from_ref(&gpu)).expect("it is free");
        let error = lock(std::slice::from_ref(&gpu)).expect_err("it is taken");
        assert!(error.to_string().starts_with("another run measures on GPU 0"), "{error}");
        drop(held);
        lock(&[gpu]).expect("it is free again");
    }
}
