use std::{fs, path::PathBuf};

use super::*;

fn object(folder: &Path, name: &str, content: &str) -> RemoteObject {
    let from = folder.join(name.replace('/', "-"));
    fs::write(&from, content).expect("writes");
    RemoteObject { name: name.to_owned(), from }
}

/// A folder as a store, and one beside it for files.
fn store() -> (tempfile::TempDir, PathBuf, Box<dyn ObjectStore>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    fs::create_dir(&there).and_then(|()| fs::create_dir(&here)).expect("creates");
    let store = open(&format!("file://{}", there.display())).expect("a store");
    (folder, here, store)
}

#[tokio::test]
async fn objects_are_made_once_and_the_last_stands_for_all() {
    let (folder, here, store) = store();
    let first = [object(&here, "blobs/a", "a"), object(&here, "records/1", "1")];
    assert_eq!(push(&*store, &first).await, Ok(RemoteOutcome::Made));
    assert_eq!(push(&*store, &first).await, Ok(RemoteOutcome::There));
    let other = [object(&here, "blobs/b", "b"), object(&here, "records/1", "other")];
    assert_eq!(push(&*store, &other).await, Ok(RemoteOutcome::There));
    assert!(!folder.path().join("there/blobs/b").exists(), "the record was there");
    // Content of one that broke off is taken as it is.
    let second = [object(&here, "blobs/a", "other"), object(&here, "records/2", "2")];
    assert_eq!(push(&*store, &second).await, Ok(RemoteOutcome::Made));

    let to = here.join("fetched");
    let fetched = |name: &'static str| fetch(&*store, name, &to);
    for (name, content) in [("blobs/a", "a"), ("records/1", "1"), ("records/2", "2")] {
        assert_eq!(fetched(name).await, Ok(RemoteOutcome::There));
        assert_eq!(fs::read_to_string(&to).expect("it was fetched"), content);
    }
    assert_eq!(fetched("records/3").await, Ok(RemoteOutcome::Absent));
    assert_eq!(find(&*store, "records/2").await, Ok(RemoteOutcome::There));
    assert_eq!(find(&*store, "records/3").await, Ok(RemoteOutcome::Absent));
}

#[test]
fn what_a_service_answers_is_not_quoted() {
    let generic = |text: &str| Error::Generic { store: "S3", source: text.into() };
    let text = "Server returned non-2xx status code: 400 Bad Request: <Key>AKIAX</Key>";
    assert_eq!(failure::describe(&generic(text)), "the service answers 400 Bad Request");
    let text = "Server returned error response: AKIAX";
    assert_eq!(failure::describe(&generic(text)), "the service answers with an error");
    let refused = Error::PermissionDenied { path: "AKIAX".to_owned(), source: "AKIAX".into() };
    assert!(!failure::describe(&refused).contains("AKIAX"));
    let gone = |text: &str| Error::NotFound { path: "x".to_owned(), source: text.into() };
    assert!(failure::is_absent(&gone("<Code>NoSuchKey</Code>")));
    assert!(!failure::is_absent(&gone("<Code>NoSuchBucket</Code>")));
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    let error = open("file:///nowhere/at/all").map(drop).expect_err("there is none").to_string();
    assert_eq!(error, "no folder /nowhere/at/all: make it, or mount it");
    assert!(!Path::new("/nowhere").exists());
}
