//! The order of crates and of the files inside them: nothing uses what stands above it.
//!
//! `cargo test --workspace --test suite floors -- --nocapture` prints the graph of the crates that
//! ARCHITECTURE.md has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

/// The crates of the workspace in their order: each uses only those before it.
const ORDER: [&str; 11] = [
    "bench-core",
    "bench-trials",
    "store",
    "dag",
    "profile",
    "analysis",
    "report",
    "engines",
    "bench",
    "xtask",
    "bench-core-tests",
];

/// Packages that one crate alone may use.
const ALONE: [(&str, &[&str]); 2] = [
    ("report", &["ab_glyph", "dejavu", "minijinja", "plotters", "pulldown-cmark", "tiny-skia"]),
    ("bench", &["hyper", "object_store", "reqwest", "tokio"]),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The packages that each crate of the workspace needs to run.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = found["packages"].as_array().expect("packages").iter();
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    packages
        .map(|package| {
            let all = package["dependencies"].as_array().expect("dependencies").iter();
            (name(package), all.filter(|d| d["kind"].is_null()).map(name).collect())
        })
        .collect()
}

#[test]
fn no_crate_uses_one_above_it() {
    let crates = dependencies();
    let names: BTreeSet<&str> = crates.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(ORDER), "a crate has no place in ORDER");
    let place = |name: &str| ORDER.iter().position(|other| *other == name);
    let mut drawing = "graph BT\n".to_owned();
    for name in ORDER {
        for used in &crates[name] {
            if let Some(below) = place(used) {
                assert!(Some(below) < place(name), "{name} uses {used}, which stands above it");
                drawing += &format!("  {name} --> {used}\n");
            }
        }
        for (only, packages) in ALONE.iter().filter(|(only, _)| *only != name) {
            let strays: Vec<_> =
                crates[name].iter().filter(|p| packages.contains(&&***p)).collect();
            assert!(strays.is_empty(), "{name} uses {strays:?}, which is for {only} alone");
        }
    }
    print!("{drawing}");
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("reads");
    assert!(page.contains(&drawing), "ARCHITECTURE.md has another graph of the crates:\n{drawing}");
}

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    let members = ["analysis", "dag", "engines", "profile", "report", "store"];
    let members = members.map(|name| format!("xtask/{name}"));
    let crates = ["bench", "bench/core", "bench/trials", "xtask"];
    let mut circles = Vec::new();
    for folder in members.iter().map(String::as_str).chain(crates) {
        let mut files = BTreeMap::new();
        read_modules(&root().join(folder).join("src"), &mut Vec::new(), &mut files);
        assert!(!files.is_empty(), "{folder} has files");
        let uses = uses(&files);
        circles.extend(circle(&uses).map(|files| format!("{folder}: {files:?}")));
    }
    assert!(circles.is_empty(), "files that use each other in a circle: {circles:?}");
}

/// A module's place in its crate, such as `["plots", "data"]`; empty for the root.
type Module = Vec<String>;

/// The sources of a folder by their modules, tests left out.
fn read_modules(folder: &Path, module: &mut Module, found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        // A program beside a library is a crate of its own.
        let is_beside_library = stem == "main" && folder.join("lib.rs").exists();
        if is_beside_library || ["tests", "fixture", "outcomes"].contains(&&*stem) {
            continue;
        }
        if path.is_dir() {
            module.push(stem);
            read_modules(&path, module, found);
            module.pop();
        } else if path.extension().is_some_and(|e| e == "rs") {
            let mut own = module.clone();
            if !["lib", "main", "mod"].contains(&&*stem) {
                own.push(stem);
            }
            found.insert(own, plain(&fs::read_to_string(&path).expect("UTF-8")));
        }
    }
}

/// A source without comments and without what only tests compile.
fn plain(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut out = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            lines.next();
        } else if !line.trim_start().starts_with("//") {
            out += line.split(" // ").next().unwrap_or_default();
            out.push('\n');
        }
    }
    out
}

/// A name that a `use` brings into a module.
struct Import {
    name: String,
    path: Vec<String>,
    /// `pub use`: a name for others, and no use of its own.
    is_export: bool,
}

/// The `use` declarations of a source, and the rest of it.
fn imports(source: &str) -> (Vec<Import>, String) {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut statement: Option<String> = None;
    for line in source.lines() {
        let start = line.trim_start();
        let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
        match &mut statement {
            Some(text) => *text += line,
            None if begins.iter().any(|word| start.starts_with(word)) => {
                statement = Some(start.to_owned());
            }
            None => rest += &format!("{line}\n"),
        }
        if let Some(text) = statement.take_if(|text| text.ends_with(';')) {
            let (before, tree) = text.trim_end_matches(';').split_once("use ").expect("a use");
            for path in expand(tree) {
                let (path, alias) = path.split_once(" as ").unwrap_or((&path, ""));
                let mut path: Vec<String> =
                    path.trim().split("::").map(|part| part.trim().to_owned()).collect();
                path.pop_if(|last| last == "self");
                let name = if alias.is_empty() { path.last() } else { Some(&alias.to_owned()) };
                let name = name.cloned().unwrap_or_default();
                found.push(Import { name, path, is_export: !before.is_empty() });
            }
        }
    }
    (found, rest)
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str) -> Vec<String> {
    let Some((before, inside)) = tree.trim().split_once('{') else {
        return vec![tree.trim().to_owned()];
    };
    let inside = inside.trim_end().strip_suffix('}').unwrap_or(inside);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => parts.last_mut().expect("one is open").push(c),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| expand(part)).map(|path| format!("{before}{path}")).collect()
}

/// Which modules each module uses: by the paths in it, through names that others pass on.
fn uses(files: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let parsed: BTreeMap<&Module, (Vec<Import>, String)> =
        files.iter().map(|(module, source)| (module, imports(source))).collect();
    let mut found = BTreeMap::new();
    for (module, (imports, rest)) in &parsed {
        let words: BTreeSet<&str> =
            rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        // A name that is passed on and used here too is used.
        let own = imports.iter().filter(|i| !i.is_export || words.contains(i.name.as_str()));
        let written = rest
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
            .filter(|word| word.contains("::"))
            .map(|word| word.trim_matches(':').split("::").map(str::to_owned).collect());
        let paths: Vec<Vec<String>> =
            own.map(|import| import.path.clone()).chain(written).collect();
        let targets = paths.iter().filter_map(|path| resolve(&parsed, module, path, 0));
        found.insert((*module).clone(), targets.filter(|target| target != *module).collect());
    }
    found
}

/// The module that defines what a path names; `None` for what another crate does, and for a module
/// itself: to bring one in is no use of it before something in it is named.
fn resolve(
    parsed: &BTreeMap<&Module, (Vec<Import>, String)>,
    from: &Module,
    path: &[String],
    depth: u32,
) -> Option<Module> {
    let child = |of: &Module, name: &String| {
        let child: Module = of.iter().chain([name]).cloned().collect();
        parsed.contains_key(&child).then_some(child)
    };
    let (first, mut rest) = path.split_first()?;
    let mut at = match first.as_str() {
        "crate" => Module::new(),
        "self" => from.clone(),
        "super" => from[..from.len().checked_sub(1)?].to_vec(),
        _ => match child(from, first) {
            Some(child) => child,
            None => {
                // A name that was imported; a crate's own leads nowhere.
                let (imports, _) = &parsed[from];
                let import = imports.iter().find(|import| import.name == *first)?;
                let leads_on = import.path.first() != Some(first) && depth < 9;
                let path: Vec<String> = import.path.iter().chain(rest).cloned().collect();
                return leads_on.then(|| resolve(parsed, from, &path, depth + 1)).flatten();
            }
        },
    };
    loop {
        let (name, after) = rest.split_first()?;
        if name == "super" {
            at.pop();
        } else if let Some(child) = child(&at, name) {
            at = child;
        } else {
            let (imports, _) = &parsed[&at];
            let import = imports.iter().find(|import| import.name == *name);
            let Some(import) = import.filter(|_| depth < 9) else { return Some(at) };
            let path: Vec<String> = import.path.iter().chain(after).cloned().collect();
            return resolve(parsed, &at, &path, depth + 1);
        }
        rest = after;
    }
}

/// Modules that lead back to themselves, if there are any.
fn circle(uses: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<String>> {
    fn walk<'a>(
        uses: &'a BTreeMap<Module, BTreeSet<Module>>,
        at: &'a Module,
        path: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
    ) -> bool {
        if let Some(start) = path.iter().position(|module| *module == at) {
            path.drain(..start);
            return true;
        }
        if !done.insert(at) {
            return false;
        }
        path.push(at);
        if uses[at].iter().any(|next| walk(uses, next, path, done)) {
            return true;
        }
        path.pop();
        false
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|start| {
        let mut path = Vec::new();
        walk(uses, start, &mut path, &mut done)
            .then(|| path.iter().map(|module| format!("crate::{}", module.join("::"))).collect())
    })
}

/// The modules of a crate of these files.
fn of(files: &[(&str, &str)]) -> Option<Vec<String>> {
    let module = |name: &str| -> Module {
        name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let files = files.iter().map(|(name, source)| (module(name), plain(source))).collect();
    circle(&uses(&files))
}

#[test]
fn circles_are_found_and_names_passed_on_are_none() {
    let through_root = [("", "mod a;\nmod b;\npub use a::A;"), ("a", "pub struct A;"), ("b", "")];
    assert_eq!(of(&through_root), None);
    let uses_root = [("", "mod a;\nfn f() { a::g() }\npub struct R;"), ("a", "use super::R;")];
    assert_eq!(of(&uses_root), Some(vec!["crate::".to_owned(), "crate::a".to_owned()]));
    let by_export = [
        ("", "mod a;\nmod b;\npub use b::B;"),
        ("a", "use crate::B;\npub struct A;"),
        ("b", "use super::a::{self, A};\npub struct B;"),
    ];
    assert_eq!(of(&by_export), Some(vec!["crate::a".to_owned(), "crate::b".to_owned()]));
    let by_path = [
        ("", "mod a;\nmod b;"),
        ("a", "fn f() { crate::b::g() }"),
        ("b", "// crate::a::f\nfn g() { super::a::f() }"),
    ];
    assert!(of(&by_path).is_some());
    let in_tests = [
        ("", "mod a;\nmod b;"),
        ("a", "use crate::b::B;"),
        ("b", "pub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::a::f;\n}"),
    ];
    assert_eq!(of(&in_tests), None);
    let nested = [
        ("", "mod p;"),
        ("p", "mod data;\nmod x;\npub use data::Inputs;\nfn all() { x::draw() }"),
        ("p::data", "pub struct Inputs;"),
        ("p::x", "use super::{Inputs, data::{self as d, Inputs as I}};"),
    ];
    assert_eq!(of(&nested), None, "`super::Inputs` is the file's that defines it");
}
