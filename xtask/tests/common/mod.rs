//! What the tests of the whole program share.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use rustix::fs::{StatVfsMountFlags, statvfs};
use tempfile::TempDir;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The programs, side by side. Cargo builds `bench` for the tests of its own package, which this asks
/// for, so that its dependencies have the features that tests have and none is compiled twice.
static XTASK: LazyLock<PathBuf> = LazyLock::new(|| {
    let xtask = PathBuf::from(env!("CARGO_BIN_EXE_xtask"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["test", "--quiet", "--workspace", "--no-run", "--test", "http"])
        .current_dir(REPOSITORY);
    if xtask.parent().is_some_and(|folder| folder.ends_with("release")) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "bench builds");
    xtask
});

/// How exact the load generator is on this host: found once for all tests, which kept it for the next run.
static CALIBRATION: LazyLock<PathBuf> = LazyLock::new(|| {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("calibration.json");
    let mut bench = Command::new(XTASK.with_file_name("bench"));
    bench.args(["calibrate", "--seconds", "1", "--repeats", "1", "--keep"]).arg(&kept);
    let output = bench.output().expect("bench runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    kept
});

/// Before what is waited for is looked at again. Who spins instead takes a core from clients beside it, and
/// their requests are late.
pub fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(5));
}

/// A folder for a test: in memory where programs can be started from there, since a store waits for the disk
/// at each file that it keeps.
pub fn tempdir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let has_room = statvfs(memory).is_ok_and(|found| {
        let is_free = found.f_bavail * found.f_frsize > 1 << 30;
        is_free && !found.f_flag.intersects(StatVfsMountFlags::NOEXEC | StatVfsMountFlags::RDONLY)
    });
    let made = if has_room { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder")
}

/// Gives a project's store the calibration that its first trial over HTTP would make.
pub fn calibrate(folder: &Path) {
    let artifacts = folder.join("artifacts");
    fs::create_dir_all(&artifacts).expect("creates");
    fs::copy(&*CALIBRATION, artifacts.join("calibration.json")).expect("copies");
}

/// The program with these arguments, in a project's folder.
pub fn xtask(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(&*XTASK);
    // Without cargo's variable the program takes the `bench` beside it.
    command.args(args).current_dir(folder).env_remove("CARGO").env("NO_COLOR", "1");
    // Whoever runs the tests may have a remote store of his own.
    for name in ["BENCH_REMOTE", "BENCH_REMOTE_WRITE", "CI"] {
        command.env_remove(name);
    }
    command
}

/// Output with the lines that were folded for the terminal in one again.
pub fn unfolded(output: &str) -> String {
    output.replace("\n   ", " ")
}

/// Copies files of this repository into a project's folder.
pub fn copy(names: &[&str], folder: &Path) {
    for name in names {
        let to = folder.join(name);
        fs::create_dir_all(to.parent().expect("a folder")).expect("creates");
        fs::copy(Path::new(REPOSITORY).join(name), to).expect("copies");
    }
}

/// Every file below a folder; none where there is no such folder.
pub fn paths_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() { paths_below(&path) } else { vec![path] }).collect()
}

/// Number of files below a folder; 0 where there is none.
pub fn files_below(folder: &Path) -> usize {
    paths_below(folder).len()
}
