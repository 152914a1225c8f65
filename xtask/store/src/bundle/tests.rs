use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tests::TRIAL;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut store = Store::open_read_only(folder.path()).expect("opens");
    store.make_writable().expect("is writable");
    (folder, store)
}

fn is_record(name: &str) -> bool {
    name == "record"
}

/// Publishes trials, each with a record and samples, and exports them in that order.
fn export(store: &Store, trials: &[(u32, String)]) -> Bundle {
    let entries = trials.iter().map(|(n, record)| {
        let outputs = [("record", record.as_bytes()), ("samples", b"\x1f\x8b raw")];
        let outputs = outputs.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into();
        let key_inputs = json!({ "trial": n });
        let action = store.publish(&TRIAL, key_inputs, &outputs, BTreeMap::new());
        store.export(action.expect("publishes"), is_record).expect("exports")
    });
    let calibration = Some(json!({ "tokens_per_s": 0.1 }));
    let entries = entries.collect();
    Bundle { profile: "test".to_owned(), calibration, entries, files: Vec::new() }
}

fn small() -> Vec<u8> {
    let (_folder, store) = store();
    let trials = [(1, "{\"tokens\": 5}\n".to_owned()), (2, "x".repeat(300))];
    export(&store, &trials).to_bytes().expect("is small")
}

/// The bytes of a file whose lines are these, sealed as `to_bytes` seals.
fn sealed(lines: &[Value]) -> Vec<u8> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    packed(&text).expect("writes")
}

/// The lines of a bundle, their records sealed as a [`Value`] writes them.
fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = decompress(bytes).expect("a bundle");
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    lines[1..].iter_mut().for_each(seal_record);
    lines
}

/// Its whole text.
fn decompress(bytes: &[u8]) -> Result<String> {
    let mut text = Text::of(bytes)?;
    text.allow(TEXT_BYTES_MAX_WITH_FILES);
    let mut whole = String::new();
    while let Some(line) = text.line()? {
        whole += &line;
        whole += "\n";
    }
    text.end()?;
    Ok(whole)
}

fn seal_record(line: &mut Value) {
    let action = line["record"]["action"].to_string();
    line["record"]["seal"] = Digest::of(action.as_bytes()).to_string().into();
}

#[test]
fn any_flipped_bit_is_refused() {
    let bytes = small();
    assert_eq!(Bundle::from_bytes(&bytes).expect("is whole").entries.len(), 2);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(Bundle::from_bytes(&damaged).is_err(), "byte {at}, bit {bit}");
        }
    }
    for end in 0..bytes.len() {
        assert!(Bundle::from_bytes(&bytes[..end]).is_err(), "cut after {end} bytes");
    }
}

#[test]
fn a_lie_under_a_right_seal_is_refused() {
    let honest = lines(&small());
    assert_eq!(sealed(&honest), seal(sealed(&honest)));
    assert!(Bundle::from_bytes(&sealed(&honest)).is_ok());
    let refusal = |lie: &dyn Fn(&mut Vec<Value>)| {
        let mut lines = honest.clone();
        lie(&mut lines);
        format!("{:#}", Bundle::from_bytes(&sealed(&lines)).expect_err("is refused"))
    };
    let texts = [
        refusal(&|lines| lines[0]["format"] = 2.into()),
        refusal(&|lines| lines[0]["more"] = 1.into()),
        refusal(&|lines| lines[0]["entries"] = 3.into()),
        refusal(&|lines| drop(lines.pop())),
        refusal(&|lines| lines.swap(1, 2)),
        refusal(&|lines| lines[2] = lines[1].clone()),
        refusal(&|lines| lines[1]["outputs"]["record"] = "faster".into()),
        refusal(&|lines| lines[1]["outputs"]["samples"] = "raw".into()),
        refusal(&|lines| lines[1]["outputs"] = json!({})),
        refusal(&|lines| lines[1]["record"]["action"]["preimage"]["trial"] = 9.into()),
        refusal(&|lines| {
            lines[1]["record"]["action"]["preimage"]["trial"] = 9.into();
            seal_record(&mut lines[1]);
        }),
        refusal(&|lines| {
            lines[1]["record"]["action"]["key"] = "../../../etc/passwd".into();
            seal_record(&mut lines[1]);
        }),
    ];
    insta::assert_snapshot!("lies", texts.join("\n"));
}

#[test]
fn files_travel_as_they_are_and_a_bundle_without_any_is_as_before() {
    let (_folder, store) = store();
    let bare = export(&store, &[(1, "{}".to_owned())]);
    assert!(!decompress(&bare.to_bytes().expect("is small")).expect("text").contains("files"));
    let file = |name: &str, text: &str| CarriedFile::new(name.to_owned(), text.to_owned());
    let files = vec![file("data/log.jsonl", "{\"a\": 1}\n"), file("mine.toml", "x = 1\n")];
    let bundle = Bundle { files, ..bare };
    let bytes = bundle.to_bytes().expect("is small");
    assert_eq!(Bundle::from_bytes(&bytes).expect("is whole"), bundle);
    let mut turned = bundle;
    turned.files.reverse();
    assert_eq!(turned.to_bytes().expect("is small"), bytes, "in whatever order");
    let honest: Vec<Value> = {
        let text = decompress(&bytes).expect("a bundle");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let refusal = |lie: &dyn Fn(&mut Vec<Value>)| {
        let mut lines = honest.clone();
        seal_record(&mut lines[1]);
        lie(&mut lines);
        format!("{:#}", Bundle::from_bytes(&sealed(&lines)).expect_err("is refused"))
    };
    for (lie, expected) in [
        (refusal(&|lines| lines[2]["text"] = "other".into()), "does not match its digest"),
        (refusal(&|lines| lines[2] = lines[3].clone()), "a file twice"),
        (refusal(&|lines| drop(lines.pop())), "1 files and says 2"),
        (refusal(&|lines| lines[0]["format"] = 1.into()), "it has format 1"),
        (refusal(&|lines| lines[2]["more"] = 1.into()), "nor a file"),
    ] {
        assert!(lie.contains(expected), "{expected}: {lie}");
    }
}

#[test]
fn a_bundle_is_bounded_however_small_its_gzip_is() {
    let refusal = |bytes: &[u8]| Bundle::from_bytes(bytes).expect_err("is refused").to_string();
    let megabyte = vec![b' '; 1 << 20];
    let bomb = |head: &str, megabytes: usize| {
        let (bomb, _) = pack(|gzip| {
            gzip.write_all(head.as_bytes())?;
            (0..megabytes).try_for_each(|_| Ok(gzip.write_all(&megabyte)?))
        })
        .expect("writes");
        assert!(bomb.len() < 1_000_000);
        bomb
    };
    // One without end of a line, and one whose head allows as much as one with files may have.
    let error = refusal(&bomb("", 65));
    assert!(error.contains("text is longer than 67108864"), "{error}");
    let with_files = "{\"format\":2,\"profile\":\"x\",\"entries\":0,\"files\":1}\n";
    let error = refusal(&bomb(with_files, 513));
    assert!(error.contains("text is longer than 536870912"), "{error}");
    let mut trailed = small();
    trailed.extend_from_slice(b"more");
    let error = refusal(&seal(trailed));
    assert!(error.contains("follows its end"), "{error}");
}

#[test]
fn files_that_compress_well_travel_and_a_bundle_without_any_stays_small() {
    let (_folder, store) = store();
    let bare = export(&store, &[(1, "{}".to_owned())]);
    let text = "{\"a\": 1}\n".repeat(7_000_000);
    let bundle = Bundle { files: vec![CarriedFile::new("x".to_owned(), text)], ..bare.clone() };
    let bytes = bundle
        .to_bytes()
        .expect("63 MB of text and their escapes, more than one without files has");
    assert!(bytes.len() < 1_000_000);
    assert!(Bundle::from_bytes(&bytes).expect("is whole") == bundle);

    let entry = &bare.entries[0];
    let outputs = [("record".to_owned(), " ".repeat(65 << 20))].into();
    let large = Entry { outputs, ..entry.clone() };
    let error = Bundle { entries: vec![large], ..bare.clone() }.to_bytes().expect_err("is refused");
    assert!(error.to_string().contains("bytes of text, at most 67108864 are"), "{error}");

    // Digits of a generator, which no compression makes small.
    let mut x = 1_u64;
    let noise = std::iter::repeat_with(|| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + 2 + ((x >> 40) % 60) as u8)
    });
    let noise: String = noise.take(7_000_000).collect();
    let outputs = [("record".to_owned(), noise.clone())].into();
    let large = Entry { outputs, ..entry.clone() };
    let error = Bundle { entries: vec![large], ..bare.clone() }.to_bytes().expect_err("is refused");
    assert!(error.to_string().contains("bytes, at most 5000000 are"), "{error}");
    let head = "{\"format\":1,\"profile\":\"x\",\"entries\":0}\n";
    let error = Bundle::from_bytes(&packed(&(head.to_owned() + &noise)).expect("writes"));
    let error = error.expect_err("is refused").to_string();
    assert!(error.contains("more than 5000000 bytes"), "{error}");
}

#[test]
fn what_has_its_samples_stays_and_what_has_not_is_replaced() {
    let (_folder, here) = store();
    let (_elsewhere, other) = store();
    let mine = [(1, "mine".to_owned())];
    export(&here, &mine);
    let theirs = export(&other, &[(1, "theirs".to_owned()), (2, "theirs".to_owned())]);
    assert_eq!(here.import(&theirs.entries).expect("imports"), 1);
    let record = |n: u32| {
        let key = Digest::of_json(&json!({ "trial": n })).expect("no floats");
        let action = here.action(&TRIAL, &key).expect("reads").expect("is no miss");
        (here.get(&action.outputs["record"]).expect("reads").expect("is there"), action.left_out)
    };
    assert_eq!((record(1).0, record(1).1.len()), (b"mine".to_vec(), 0));
    assert_eq!((record(2).0, record(2).1.len()), (b"theirs".to_vec(), 1));
    let newer = export(&other, &[(2, "newer".to_owned())]);
    assert_eq!(here.import(&newer.entries).expect("imports"), 0);
    assert_eq!(record(2).0, b"newer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever a stranger writes under a right seal is refused, or holds what it says.
    #[test]
    fn no_text_under_a_right_seal_is_misread(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..9_usize, "[\\PC\"{}\\[\\]:,\\n0-9]{0,6}"), 0..3),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        static SMALL: LazyLock<String> = LazyLock::new(|| decompress(&small()).expect("a bundle"));
        let mut text = SMALL.clone();
        for (at, len, piece) in edits {
            let start = at.index(text.len());
            let end = (start + len).min(text.len());
            // The example is plain ASCII, what was put into it is not.
            if text.is_char_boundary(start) && text.is_char_boundary(end) {
                text.replace_range(start..end, &piece);
            }
        }
        if is_cut {
            let end = cut.index(text.len());
            text.truncate(text.floor_char_boundary(end));
        }
        if let Ok(bundle) = Bundle::from_bytes(&packed(&text).expect("writes")) {
            let again = Bundle::from_bytes(&bundle.to_bytes().expect("is small"));
            prop_assert_eq!(again.expect("is whole"), bundle);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A bundle says the same after a journey through another store, whatever was in it and in
    /// whatever order it was exported.
    #[test]
    fn exports_of_an_import_are_the_same_bytes(
        trials in prop::collection::btree_map(0_u32..1_000, "\\PC{0,40}", 0..12),
        turn in 0_usize..12,
    ) {
        let mut trials: Vec<(u32, String)> = trials.into_iter().collect();
        let (_folder, here) = store();
        let bytes = export(&here, &trials).to_bytes().expect("is small");
        let turns = turn % trials.len().max(1);
        trials.rotate_left(turns);

        let (_elsewhere, other) = store();
        let bundle = Bundle::from_bytes(&bytes).expect("is whole");
        prop_assert_eq!(other.import(&bundle.entries).expect("imports"), 0);
        let again = trials.iter().map(|(n, _)| {
            let key = Digest::of_json(&json!({ "trial": n })).expect("no floats");
            let action = other.action(&TRIAL, &key).expect("reads").expect("is no miss");
            other.export(action, is_record).expect("exports")
        });
        let again = Bundle { entries: again.collect(), ..bundle };
        prop_assert_eq!(again.to_bytes().expect("is small"), bytes);
    }
}
