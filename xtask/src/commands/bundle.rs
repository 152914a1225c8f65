//! `bundle export|import`: a profile's trials in one file, without raw samples.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
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
use store::{BUNDLE_BYTES_MAX, Bundle, CarriedFile, Entry, Store, disk::write_whole};

/// Name of a profile's own bundle in `results/<profile>/`.
const FILE: &str = "bundle.jsonl.gz";

/// Writes the profile's stored trials and its engine's identity into a file, with what else their reader needs
/// where that is asked for.
pub fn export(profile: &str, file: &Path, with_files: bool, format: MessageFormat) -> Result<()> {
    let session = Session::open(profile)?;
    let beside = files_beside(&session.profile);
    let files = match with_files {
        true => carried(&session.profile, &beside)?,
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

/// Such files as they travel: under their names from the profile's folder.
fn carried(profile: &profile::Profile, files: &[PathBuf]) -> Result<Vec<CarriedFile>> {
    let folder = std::path::absolute(&profile.path)?;
    let folder = folder.parent().unwrap_or(&folder);
    let carry = |path: &PathBuf| {
        let shown = path.display();
        let refused = |why: String| Code::FileRefused.error(format!("{shown} {why}"));
        let inside = std::path::absolute(path)?.strip_prefix(folder).ok().and_then(name_of);
        let name = inside.ok_or_else(|| {
            refused(format!(
                "lies outside {}: move it there and name it in the profile, which changes no key, or export \
                 without --with-files and copy it by itself",
                folder.display()
            ))
        })?;
        let bytes = fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            refused("is no text: export without --with-files and copy it by itself".to_owned())
        })?;
        Ok(CarriedFile::new(name, text))
    };
    files.iter().map(carry).collect()
}

/// A path below a folder as a name, parted by `/`; `None` where it leads out of the folder.
fn name_of(path: &Path) -> Option<String> {
    let parts = path.components().map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    parts.collect::<Option<Vec<_>>>().map(|parts| parts.join("/")).filter(|name| !name.is_empty())
}

/// Those of a bundle's files that are not there yet, with their places.
///
/// # Errors
/// Where another file is in the place of one.
fn lacking<'a>(bundle: &'a Bundle, root: &super::Root) -> Result<Vec<(PathBuf, &'a CarriedFile)>> {
    let mut lacking = Vec::new();
    if !bundle.files.is_empty() && root.given() != root.path() {
        let message = format!(
            "{} has no bench/profiles for the bundle's files: `cargo xtask init` makes it a project, then import again",
            root.path().display()
        );
        return Err(Code::NoProject.error(message));
    }
    for file in &bundle.files {
        let path = root.given().join("bench/profiles").join(&file.name);
        match fs::read(&path) {
            Ok(found) if Digest::of(&found) == file.digest => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                lacking.push((path, file));
            }
            found => {
                let is = found.err().map_or("another file".to_owned(), |error| error.to_string());
                let message = format!(
                    "{} is in the bundle, and here it is {is}: move that away, then import again; nothing was stored",
                    path.display()
                );
                return Err(Code::Exists.error(message));
            }
        }
    }
    Ok(lacking)
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
    let kept = take(&store, &bundle)?;
    for (path, file) in &lacking {
        write_whole(path, file.text.as_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
    }
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
            "copy the profile, and the files that it names in `data`, from where it was measured, or export it there \
             --with-files"
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
    for file in &bundle.files {
        let is_inside = name_of(Path::new(&file.name)).is_some_and(|name| name == file.name);
        ensure!(is_inside, "its file {:?} would not lie below bench/profiles", file.name);
    }
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
