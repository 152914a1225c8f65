//! `bundle export|import`: a profile's trials in one file, without raw samples.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use bench_core::{
    canonical::Digest,
    schema::{Calibration, FORMAT, Outcome, ProvisionResult},
};
use serde_json::json;

use super::{CALIBRATION, Session};
use crate::{cli::MessageFormat, error::Code, output, stages};
use dag::{Dag, LEAF, RECORD, State, TASK};
use profile::stage;
use store::{
    BUNDLE_BYTES_MAX, BUNDLE_TEXT_BYTES_MAX, Bundle, CarriedFile, Entry, Store,
    disk::{write_new, write_whole},
};

/// Name of a profile's own bundle in `results/<profile>/`.
const FILE: &str = "bundle.jsonl.gz";
/// Where an import writes a profile, and below it the files that the profile names.
const PROFILES: &str = "bench/profiles";

/// Writes the profile's stored trials and its engine's identity into a file, with what else their reader needs
/// where that is asked for.
pub fn export(profile: &str, file: &Path, with_files: bool, format: MessageFormat) -> Result<()> {
    let session = Session::open(profile)?;
    let beside = files_beside(&session.profile);
    let files = match with_files {
        true => carried(&session.profile)?,
        false => Vec::new(),
    };
    let engine = session.recorded_engine()?;
    let context = session.context(&engine);
    let mut dag = session.plan(&context, &stages::bears_on_trials, false)?;
    // What is asked for later depends on results: they are made again, in memory.
    while dag.run_next()?.is_some() {}
    let Some(State::Done(provision)) = dag.state(stage::PROVISION.name) else {
        bail!(
            "profile {} has no stage {}: nothing names its engine",
            profile,
            stage::PROVISION.name
        );
    };
    let store = &session.store;
    let mut entries = vec![store.export((**provision).clone(), |_| true)?];
    let keys = trial_keys(&dag);
    for key in keys.keys() {
        if let Some(action) = store.action(&LEAF, key)? {
            entries.push(store.export(action, |name| name == RECORD)?);
        }
    }
    let stored = entries.len() - 1;
    let calibration = session.quoted_calibration().map(serde_json::to_value).transpose()?;
    let bundle = Bundle { profile: session.profile.name.clone(), calibration, entries, files };
    let bytes = bundle.to_bytes()?;
    write_whole(file, &bytes).with_context(|| format!("writing {}", file.display()))?;
    let (name, all, bytes) = (&bundle.profile, keys.len(), bytes.len());
    let file = file.display();
    let beside: Vec<String> = match with_files {
        true => Vec::new(),
        false => beside.iter().map(|path| path.display().to_string()).collect(),
    };
    let files: Vec<&str> = bundle.files.iter().map(|file| file.name.as_str()).collect();
    match format {
        MessageFormat::Human => {
            outln!("wrote {file}: {stored} of {all} trials of profile {name}, {bytes} bytes")?;
            match with_files {
                true => {
                    outln!("with {}: give it only to those who may read them", files.join(", "))
                }
                false => outln!(
                    "to rebuild its results elsewhere, take along: {}; or export it --with-files, which puts them \
                     into it",
                    beside.join(", ")
                ),
            }
        }
        MessageFormat::Json => {
            let wrote = json!({
                "profile": name, "file": file.to_string(), "trials": stored, "of": all,
                "bytes": bytes, "beside": beside, "files": files
            });
            output::answer("bundle-export", &wrote)
        }
    }
}

/// Files that a profile's results are rebuilt with beside its bundle: itself, and those with requests and prompts.
fn files_beside(profile: &profile::Profile) -> Vec<PathBuf> {
    let data = profile.loads.iter().filter_map(|load| load.data_file.as_ref());
    let prompts = profile.answers.iter().filter_map(|answers| answers.own_file.as_ref());
    let mut files: Vec<PathBuf> = Vec::new();
    for path in [&profile.path].into_iter().chain(data).chain(prompts) {
        if !files.contains(path) {
            files.push(path.clone());
        }
    }
    files
}

/// The profile and the files that it names, as they travel: under their names below [`PROFILES`].
fn carried(profile: &profile::Profile) -> Result<Vec<CarriedFile>> {
    let refused =
        |path: &Path, why: &str| Code::FileRefused.error(format!("{} {why}", path.display()));
    let read = |path: &Path| {
        let bytes = path.metadata().and_then(|found| match found.len() {
            0..=BUNDLE_TEXT_BYTES_MAX => fs::read(path),
            bytes => {
                Err(io::Error::other(format!("{bytes} bytes, at most {BUNDLE_TEXT_BYTES_MAX}")))
            }
        });
        let bytes = bytes.map_err(|error| refused(path, &format!("cannot be read: {error}")))?;
        String::from_utf8(bytes).map_err(|_| {
            refused(path, "is no text: export without --with-files and copy it separately")
        })
    };
    let text = read(&profile.path)?;
    let folder = profile.path.parent().unwrap_or(Path::new(""));
    let mut files: BTreeMap<String, CarriedFile> = BTreeMap::new();
    for named in profile::files_named(&text)? {
        let path = folder.join(&named);
        let name = below_profiles(&named).ok_or_else(|| {
            refused(
                &path,
                &format!(
                    "lies outside {}: move it there and name it in the profile, relative to the profile, which \
                     changes no key; or export without --with-files and copy it separately",
                    folder.display()
                ),
            )
        })?;
        let file = CarriedFile::new(name.clone(), read(&path)?);
        if files.insert(name, file.clone()).is_some_and(|other| other != file) {
            return Err(refused(&path, "would take the place of another file of the profile"));
        }
    }
    let name = format!("{}.toml", profile.name);
    let profile_file = CarriedFile::new(name, text);
    let files: Vec<CarriedFile> =
        std::iter::once(profile_file).chain(files.into_values()).collect();
    check_files(&profile.name, &files)
        .map_err(|why| refused(&profile.path, &format!("cannot travel with its files: {why}")))?;
    Ok(files)
}

/// The file that a profile in [`PROFILES`] means by this name, from there, parted by `/`; `None` where it lies elsewhere.
fn below_profiles(named: &str) -> Option<String> {
    let mut parts: Vec<&str> = PROFILES.split('/').collect();
    for part in Path::new(named).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let path = parts.join("/");
    path.strip_prefix(PROFILES)?.strip_prefix('/').map(str::to_owned)
}

/// Whether files are a profile and those that it names, under names that can be written below [`PROFILES`].
fn check_files(profile: &str, files: &[CarriedFile]) -> Result<()> {
    let own = format!("{profile}.toml");
    let Some(text) = files.iter().find(|file| file.name == own).map(|file| &file.text) else {
        ensure!(files.is_empty(), "it has files without {own}, which would name them");
        return Ok(());
    };
    let named = profile::files_named(text).with_context(|| format!("{own} is no TOML"))?;
    let named: Vec<String> = named.iter().filter_map(|named| below_profiles(named)).collect();
    for CarriedFile { name, .. } in files {
        ensure!(*name == own || named.contains(name), "{own} names no file {name:?}");
        ensure!(!name.contains(char::is_control), "the name {name:?} has a control character");
        ensure!(!name.split('/').any(|part| part.starts_with('.')), "{name:?} is a hidden file");
        // Another profile, or what an installation takes its packages from.
        let is_setup = name.ends_with(".toml") || name.ends_with(".lock");
        ensure!(*name == own || !is_setup, "{name:?} has the name of a profile or a lock");
        let is_below = |other: &CarriedFile| {
            other.name.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        ensure!(!files.iter().any(is_below), "{name:?} is a file, and a folder of another one");
    }
    Ok(())
}

/// Those of a bundle's files that are not there yet, with their places.
///
/// # Errors
/// Where something else is in the place of one.
fn lacking<'a>(bundle: &'a Bundle, root: &super::Root) -> Result<Vec<(PathBuf, &'a CarriedFile)>> {
    if !bundle.files.is_empty() && root.given() != root.path() {
        let message = format!(
            "{} has no {PROFILES} for the bundle's files: `cargo xtask init` makes it a project, then import again",
            root.path().display()
        );
        return Err(Code::NoProject.error(message));
    }
    let folder = root.given().join(PROFILES);
    let mut lacking = Vec::new();
    for file in &bundle.files {
        if !is_there(&folder, file)? {
            lacking.push((folder.join(&file.name), file));
        }
    }
    Ok(lacking)
}

/// Whether a carried file is below the folder already.
///
/// # Errors
/// Where something else is in its place, a link included: that leads somewhere else.
fn is_there(folder: &Path, file: &CarriedFile) -> Result<bool> {
    let unreadable = |path: &Path, error: &io::Error| {
        let shown = path.display();
        let message = format!("cannot tell what {shown} is: {error}; nothing was stored");
        Code::FileRefused.error(message)
    };
    let mut path = folder.to_owned();
    let mut parts = file.name.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let found = match path.symlink_metadata() {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let is = match parts.peek() {
            _ if found.is_symlink() => "a link",
            Some(_) if found.is_dir() => continue,
            Some(_) => "no folder",
            None if !found.is_file() => "no file",
            None => {
                let here = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
                if Digest::of(&here) == file.digest {
                    return Ok(true);
                }
                "another file"
            }
        };
        let message = format!(
            "{} is in the bundle, and here {} is {is}: move that away, then import again; nothing was stored",
            file.name,
            path.display()
        );
        return Err(Code::Exists.error(message));
    }
    Ok(true)
}

/// Writes a bundle's files, then stores the rest; how many trials were not stored, as [`take`].
///
/// # Errors
/// When one of that fails: then none of the files remains.
fn write_and_take(
    files: &[(PathBuf, &CarriedFile)],
    store: &Store,
    bundle: &Bundle,
) -> Result<usize> {
    let mut written = Vec::new();
    let all = files.iter().try_for_each(|(path, file)| {
        write_new(path, file.text.as_bytes())
            .with_context(|| format!("writing {}; nothing was stored", path.display()))?;
        written.push(path);
        Ok(())
    });
    all.and_then(|()| take(store, bundle)).inspect_err(|_| {
        for path in written {
            // The error that is told of is the first one.
            let _ = fs::remove_file(path);
        }
    })
}

/// Every trial that the stages ask for, so far as that is known, with its role.
fn trial_keys(dag: &Dag<'_, profile::Trial>) -> BTreeMap<Digest, String> {
    let leaves = dag.iter().filter_map(|(task, _)| dag.leaves(task.name()));
    leaves.flatten().map(|leaf| (leaf.key, leaf.role.clone())).collect()
}

/// Stores what a bundle holds: all of it, or nothing when anything in it is wrong.
pub fn import(file: &Path, format: MessageFormat) -> Result<()> {
    let root = super::Root::find()?;
    let bundle = read(file)?;
    let lacking = lacking(&bundle, &root)?;
    let mut store = Store::open_read_only(&root.artifacts())?;
    store.make_writable()?;
    let kept = write_and_take(&lacking, &store, &bundle)?;
    let wrote: Vec<String> = lacking.iter().map(|(path, _)| path.display().to_string()).collect();
    let trials = bundle.entries.len() - 1;
    // Its results are made by the profile, which is not in every bundle.
    let lacks = profile::load(&bundle.profile, root.given()).err().map(|error| error.message());
    if format == MessageFormat::Json {
        let imported = json!({
            "profile": bundle.profile, "trials": trials, "kept": kept, "wrote": wrote, "lacks": lacks
        });
        return output::answer("bundle-import", &imported);
    }
    outln!("imported {} of {trials} trials of profile {}", trials - kept, bundle.profile)?;
    if kept > 0 {
        outln!("{kept} were measured here, raw samples and all, and stay as they are")?;
    }
    if !wrote.is_empty() {
        outln!("wrote {}", wrote.join(", "))?;
    }
    if let Some(lacks) = lacks {
        outln!("its results cannot be rebuilt yet: {lacks}")?;
        outln!(
            "copy the profile, and the files that it names in `data` and `prompts`, from where it was measured, or \
             export it there --with-files"
        )?;
    }
    outln!("rebuild its results with: cargo xtask suite --profile {} --offline", bundle.profile)?;
    Ok(())
}

/// Stores the bundle that lies beside the profile's results, if there is one; of a dry run, in
/// memory.
pub fn import_published(session: &mut Session, dry_run: bool) -> Result<()> {
    let path: PathBuf = session.root.results(&session.profile).join(FILE);
    if !path.is_file() {
        return Ok(());
    }
    let bundle = read(&path)?;
    if bundle.profile != session.profile.name {
        return Err(refused(&path, &format!("it holds profile {}", bundle.profile)));
    }
    if !dry_run {
        session.store.make_writable()?;
    }
    // Its trials are those of the instrument that measured them, and are asked for as such.
    if let Some(epoch) = instrument_epoch(&bundle) {
        session.profile.instrument_epoch = epoch;
    }
    take(&session.store, &bundle).map(drop)
}

/// That of the newest trial.
fn instrument_epoch(bundle: &Bundle) -> Option<u32> {
    let epochs = bundle.entries.iter().filter_map(|entry| {
        let epoch = entry.action.key_inputs.get("instrument_epoch")?.as_u64()?;
        u32::try_from(epoch).ok()
    });
    epochs.max()
}

fn take(store: &Store, bundle: &Bundle) -> Result<usize> {
    let kept = store.import(&bundle.entries)?;
    let provision = bundle.entries.iter().find(|entry| entry.action.kind == TASK);
    let provision = provision.expect("a bundle was checked to have its engine's identity");
    store.set_latest(&bundle.profile, stage::PROVISION.name, &provision.action.key)?;
    let calibration = store.put(&serde_json::to_vec(&bundle.calibration)?)?;
    store.set_latest(&bundle.profile, CALIBRATION, &calibration)?;
    Ok(kept)
}

fn read(file: &Path) -> Result<Bundle> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(BUNDLE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            Code::FileRefused.error(format!("cannot read {}: {error}", file.display()))
        })?;
    let checked = Bundle::from_bytes(&bytes).and_then(|bundle| check(&bundle).map(|()| bundle));
    checked.map_err(|error| refused(file, &format!("{error:#}")))
}

fn refused(file: &Path, why: &str) -> anyhow::Error {
    let message = format!("{} is refused: {why}; export it again", file.display());
    Code::FileRefused.error(message)
}

/// Whether a bundle holds what one of trials does: a profile's name, its engine's identity, and
/// records of trials on that engine. Its digests were checked when it was read.
fn check(bundle: &Bundle) -> Result<()> {
    ensure!(profile::is_profile_name(&bundle.profile), "its profile has no proper name");
    check_files(&bundle.profile, &bundle.files)?;
    if let Some(calibration) = &bundle.calibration {
        serde_json::from_value::<Calibration>(calibration.clone())
            .context("its calibration is none")?;
    }
    let (trials, others): (Vec<&Entry>, Vec<&Entry>) =
        bundle.entries.iter().partition(|entry| entry.action.kind == LEAF);
    let [provision] = others.as_slice() else {
        bail!("it holds {} stages, not the engine's identity alone", others.len());
    };
    let made = &provision.action.key_inputs;
    ensure!(
        made["stage"] == stage::PROVISION.name
            && made["config"]["profile"] == bundle.profile.as_str(),
        "its stage is not {} of its profile",
        stage::PROVISION.name
    );
    let identity =
        provision.outputs.get(stage::PROVISION.file()).context("no engine's identity")?;
    let ProvisionResult { header, identity } =
        serde_json::from_str(identity).context("no engine's identity")?;
    ensure!(
        header.format == FORMAT && Digest::of_json(&identity)? == header.engine.identity,
        "its engine's identity does not match its digest"
    );
    for Entry { action, outputs } in trials {
        let key = action.key.short();
        ensure!(action.key_inputs["engine"] == identity, "trial {key} ran on another engine");
        ensure!(outputs.keys().eq([RECORD]), "trial {key} holds more than its record");
        serde_json::from_str::<Outcome>(&outputs[RECORD])
            .with_context(|| format!("trial {key} has no record"))?;
    }
    Ok(())
}

impl Session {
    /// Opens a profile; an `offline` one without its engine, with the bundle that lies beside its
    /// results, which is imported: into memory where `read_only`.
    pub fn open_for(profile: &str, offline: bool, read_only: bool) -> Result<Self> {
        let mut session = Self { offline, ..Self::open(profile)? };
        if offline {
            import_published(&mut session, read_only)?;
        }
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> CarriedFile {
        CarriedFile::new(name.to_owned(), "text".to_owned())
    }

    #[test]
    fn only_a_profile_and_what_it_names_is_taken() {
        let refusal = |named: &str, name: &str| {
            let text =
                format!("[answers]\nprompts = {}\n[[load]]\ndata.file = 'a'\n", json!(named));
            let profile = CarriedFile::new("own.toml".to_owned(), text);
            check_files("own", &[profile, file("a"), file(name)]).err().map(|e| e.to_string())
        };
        for (named, name) in [
            ("x", "x"),
            ("data/x y.jsonl", "data/x y.jsonl"),
            ("./data//x", "data/x"),
            ("../profiles/data/x", "data/x"),
            ("../../bench/profiles/../profiles/x", "x"),
        ] {
            assert_eq!(refusal(named, name), None, "{named} is {name}");
        }
        for (named, name, expected) in [
            ("x", "y", "names no file"),
            ("../x", "x", "names no file"),
            ("../x", "../x", "names no file"),
            ("/x", "/x", "names no file"),
            ("data/../x", "data/../x", "names no file"),
            ("../profiles-2/x", "-2/x", "names no file"),
            (".git/hooks/post-checkout", ".git/hooks/post-checkout", "hidden"),
            ("data/.x", "data/.x", "hidden"),
            ("x\u{1b}[2J\ny", "x\u{1b}[2J\ny", "control character"),
            ("sim.lock", "sim.lock", "a profile or a lock"),
            ("sim.toml", "sim.toml", "a profile or a lock"),
            ("a/b", "a/b", "a folder of another"),
            ("own.toml/b", "own.toml/b", "a folder of another"),
        ] {
            let refusal = refusal(named, name).unwrap_or_default();
            assert!(refusal.contains(expected), "{named:?}, {name:?}: {refusal}");
            assert!(!refusal.contains(char::is_control), "{refusal:?}");
        }
        let alone = check_files("own", &[file("x")]).expect_err("is refused").to_string();
        assert!(alone.contains("without own.toml"), "{alone}");
    }

    #[test]
    fn what_is_in_the_place_of_a_file_is_told_and_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("elsewhere")).expect("creates");
        for (name, text) in [("same", "text"), ("other", "other"), ("elsewhere/x", "text")] {
            fs::write(path(name), text).expect("writes");
        }
        for (link, to) in [("link", "same"), ("dangling", "nothing"), ("linked", "elsewhere")] {
            std::os::unix::fs::symlink(path(to), path(link)).expect("links");
        }
        let told = |name: &str| is_there(folder.path(), &file(name)).map_err(|e| e.to_string());
        assert_eq!(told("same"), Ok(true));
        for name in ["none", "none/x", "elsewhere/none"] {
            assert_eq!(told(name), Ok(false), "{name}");
        }
        for (name, is) in [
            ("other", "another file"),
            ("elsewhere", "no file"),
            ("same/x", "no folder"),
            ("link", "a link"),
            ("dangling", "a link"),
            ("linked/x", "a link"),
        ] {
            let told = told(name).expect_err("is refused");
            assert!(told.contains(&format!("is {is}: move that away")), "{name}: {told}");
        }
        let told = told(&"x".repeat(300)).expect_err("is refused");
        assert!(told.contains("cannot tell what") && !told.contains("move"), "{told}");
    }

    #[test]
    fn an_import_that_cannot_write_every_file_leaves_none_and_no_trial() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(path("nothing"), path("dangling")).expect("links");
        let files = [file("a"), file("dangling")];
        let places: Vec<_> = files.iter().map(|file| (path(&file.name), file)).collect();
        let (profile, calibration, entries) = ("own".to_owned(), None, Vec::new());
        let bundle = Bundle { profile, calibration, entries, files: Vec::new() };
        let mut store = Store::open_read_only(&path("artifacts")).expect("opens");
        store.make_writable().expect("is writable");
        let told = write_and_take(&places, &store, &bundle).expect_err("fails").to_string();
        assert!(told.contains("dangling") && told.contains("nothing was stored"), "{told}");
        assert!(!path("a").exists() && !path("nothing").exists() && path("dangling").is_symlink());
    }
}
