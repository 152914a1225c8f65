//! `results/<profile>/`: what people read, a projection of the store that is rebuilt at no cost.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, anyhow};
use bench_core::canonical::Digest;
use store::disk::write_whole;

/// Makes the files of a folder those of the stages. Files that no stage makes are left alone.
pub fn project(
    folder: &Path,
    files: &BTreeMap<String, Digest>,
    content: impl Fn(&Digest) -> Result<Option<Vec<u8>>>,
) -> Result<()> {
    for (name, digest) in files {
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|found| Digest::of(&found) == *digest) {
            continue;
        }
        let bytes = content(digest)?.ok_or_else(|| {
            anyhow!("{name} was damaged in the store and is set aside; run again")
        })?;
        write_whole(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Removes a file that may be there.
pub fn remove(path: &Path) -> Result<()> {
    // On a file system that is read-only, removing what is not there is an error too.
    if !path.exists() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_strangers_stay() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = BTreeMap::from([
            ("a.json".to_owned(), Digest::of(b"a")),
            ("b.svg".to_owned(), Digest::of(b"b")),
        ]);
        fs::write(folder.path().join("a.json"), "a").expect("writes");
        fs::write(folder.path().join("notes.txt"), "mine").expect("writes");
        let asked = std::cell::RefCell::new(Vec::new());
        project(folder.path(), &files, |digest| {
            asked.borrow_mut().push(*digest);
            Ok(Some(b"b".to_vec()))
        })
        .expect("projects");
        assert_eq!(*asked.borrow(), [Digest::of(b"b")]);
        assert_eq!(fs::read(folder.path().join("b.svg")).expect("reads"), b"b");
        assert_eq!(fs::read(folder.path().join("notes.txt")).expect("reads"), b"mine");
        assert_eq!(fs::read_dir(folder.path()).expect("reads").count(), 3);
    }
}
