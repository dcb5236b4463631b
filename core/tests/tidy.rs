//! Tests of the repository itself: who may use whom, where unsafe stands, what files say in their first line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use promring::config::SETTINGS;

/// Module and the modules it may name, from the floor up: a line names only lines above it, so there is no cycle.
/// A word added here is an architectural change.
const MAY_USE: &[(&str, &str)] = &[
    ("error", ""),
    ("sync", ""),
    ("config", "error"),
    ("os", "sync"),
    ("layout", "sync"),
    ("segment", "error layout os sync"),
    ("native", ""),
    ("registry", "error layout native os segment sync"),
    ("exemplar", "error layout os segment sync"),
    ("ring", "layout sync"),
    ("totals", "layout registry sync"),
    ("producer", "layout os ring sync"),
    ("worker", "layout os producer ring segment sync"),
    ("sets", "layout native segment sync totals"),
    ("window", "layout native os registry segment sets sync totals"),
    ("drain", "layout native os registry ring segment sync totals window worker"),
    ("expiry", "drain registry segment"),
    ("snapshot", "config drain exemplar layout native registry segment sets sync totals window worker"),
    (
        "client",
        "config drain error exemplar expiry layout native os producer registry ring segment sets snapshot sync totals window worker",
    ),
    ("process", "client os sync"),
    ("exposition", "snapshot"),
    ("http", "error"),
    ("aggregator", "client config error exposition http os process segment snapshot sync"),
    ("collector", "aggregator exposition"),
    ("cli", "aggregator client config os registry segment worker"),
    ("model", "drain layout os producer registry ring segment sync worker"),
    (
        "proof",
        "client config drain exemplar expiry exposition layout os producer registry ring segment sets snapshot sync window worker",
    ),
];

/// What looks upwards: a worker that drains or ends a request notices that the aggregator has died.
const LOOKS_UP: &[(&str, &str)] = &[("client", "aggregator")];

/// The modules of the core, and those of the bindings, where unsafe code may stand.
const UNSAFE: &[&str] = &["os", "producer", "segment", "sync", "hot"];

/// Everything that is laid out by us; what tools leave beside it is not looked at.
fn repository() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let skip = |name: &str| {
        let hidden =
            name.starts_with('.') && !name.starts_with(".ci") && !name.starts_with(".github");
        hidden || name.starts_with("target") || ["__pycache__", "dist", "tmp"].contains(&name)
    };
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if skip(&name) {
                continue;
            }
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => {
                    found.push(entry.path().strip_prefix(root).unwrap().into())
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// A file's text; nothing of one that holds no text.
fn read(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let bytes = fs::read(root.join(path)).unwrap();
    if bytes.contains(&0) {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn sources(extension: &str) -> Vec<(PathBuf, String)> {
    let of_kind = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    repository().into_iter().filter(of_kind).map(|path| (path.clone(), read(&path))).collect()
}

/// The modules and their texts; a folder is one module, whose files may use each other.
fn core_modules() -> Vec<(String, String)> {
    let mut modules: BTreeMap<String, String> = BTreeMap::new();
    for (path, text) in sources("rs") {
        let Ok(path) = path.strip_prefix("core/src") else { continue };
        let module = Path::new(path.components().next().unwrap().as_os_str()).file_stem().unwrap();
        if module != "lib" {
            *modules.entry(module.to_str().unwrap().to_string()).or_default() += &text;
        }
    }
    modules.into_iter().collect()
}

#[track_caller]
fn expect_none(errors: &[String]) {
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

/// The first words of `text` after each `before`: names of modules.
fn words_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.split(before).skip(1).map(move |rest| rest.split(|c| !is_name(c)).next().unwrap())
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let mut errors = Vec::new();
    for (module, text) in core_modules() {
        let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            errors.push(format!("{module}: has no line in MAY_USE"));
            continue;
        };
        for used in words_after(&text, "crate::") {
            let looks_up = LOOKS_UP.contains(&(module.as_str(), used));
            let allowed = may_use.split(' ').any(|name| name == used) || looks_up || used == module;
            // Constants and macros of lib.rs stand on the floor.
            if !allowed && used.starts_with(char::is_lowercase) {
                errors.push(format!(
                    "{module}: may not use `{used}` (write one `crate::module` per `use`)"
                ));
            }
        }
    }
    expect_none(&errors);
}

#[test]
fn the_table_of_modules_has_no_cycle_and_no_idle_word() {
    let modules = core_modules();
    let mut errors = Vec::new();
    for (index, (module, may_use)) in MAY_USE.iter().enumerate() {
        let Some((_, text)) = modules.iter().find(|(name, _)| name == module) else {
            errors.push(format!("{module}: there is no such file"));
            continue;
        };
        for name in may_use.split_whitespace() {
            if !MAY_USE[..index].iter().any(|(below, _)| *below == name) {
                errors.push(format!("{module}: `{name}` does not stand above it in the table"));
            }
            if !words_after(text, "crate::").any(|used| used == name) {
                errors.push(format!("{module}: `{name}` may be used and is not: take it out"));
            }
        }
    }
    expect_none(&errors);
}

#[test]
fn unsafe_code_has_an_address() {
    let mut errors = Vec::new();
    for (path, text) in
        sources("rs").iter().filter(|(path, _)| !path.ends_with("core/tests/tidy.rs"))
    {
        let module = path.file_stem().unwrap().to_str().unwrap();
        let in_crate = path.components().any(|part| part.as_os_str() == "src");
        if in_crate && text.contains("allow(unsafe_code)") && !UNSAFE.contains(&module) {
            errors.push(format!("{}: only {UNSAFE:?} may allow unsafe code", path.display()));
        }
        if path.ends_with("src/lib.rs") && !text.contains("deny(unsafe_code)") {
            errors.push(format!("{}: must say #![deny(unsafe_code)]", path.display()));
        }
    }
    for (module, text) in core_modules() {
        if module != "sync" && text.contains("sync::atomic") {
            errors.push(format!(
                "{module}: atomics come from crate::sync, so that loom can see them"
            ));
        }
    }
    expect_none(&errors);
}

#[test]
fn the_shipped_library_has_no_door_for_proofs() {
    let manifest = read(Path::new("core/Cargo.toml"));
    assert!(
        manifest.contains("\nproof = []\n") && !manifest.contains("\ndefault ="),
        "a feature is on"
    );
    let mut errors = Vec::new();
    for (module, text) in core_modules() {
        // Planted faults exist in the copy that ci/mutants makes, and nowhere else.
        if text.contains("mutants::") {
            errors.push(format!("{module}: holds a planted fault"));
        }
    }
    let library = read(Path::new("core/src/lib.rs"));
    if !library.contains("feature = \"proof\", not(loom)))]\n#[doc(hidden)]\npub mod proof;") {
        errors.push("lib: `proof` must be hidden behind its feature".into());
    }
    expect_none(&errors);
}

/// The first line that is for readers: after `#!` and the directives of tools.
fn first_line(text: &str) -> &str {
    let for_tools = ["#!/", "# frozen_string_literal", "# shellcheck", "# -*-"];
    text.lines()
        .find(|line| !line.is_empty() && !for_tools.iter().any(|start| line.starts_with(start)))
        .unwrap_or("")
}

#[test]
fn every_source_file_says_its_purpose_first() {
    let mut errors = Vec::new();
    for path in repository() {
        let text = read(&path);
        let extension = path.extension().map(|found| found.to_string_lossy().into_owned());
        let starts: &[&str] = match extension.as_deref() {
            Some("rs") => &["//! "],
            Some("py" | "pyi") => &["\"\"\"", "r\"\"\""],
            Some("rb" | "ru" | "rbs" | "gemspec") => &["# "],
            None if text.starts_with("#!") => &["# ", "\"\"\""],
            _ => continue,
        };
        if !starts.iter().any(|start| first_line(&text).starts_with(start)) {
            errors.push(format!("{}: the first line says what it is for", path.display()));
        }
    }
    expect_none(&errors);
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    // In two halves each: this file is looked at, too.
    let places = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    let mut errors = Vec::new();
    for path in repository() {
        let text = read(&path);
        if let Some(place) = places.iter().find(|place| text.contains(**place)) {
            errors.push(format!("{}: names {place}", path.display()));
        }
    }
    expect_none(&errors);
}

#[test]
fn the_changelog_knows_the_version() {
    let heading = format!("\n## {}", promring::VERSION);
    assert!(read(Path::new("core/CHANGELOG.md")).contains(&heading), "wanted:{heading}");
}

#[test]
fn the_readme_lists_every_setting() {
    let readme = read(Path::new("README.md"));
    let row = |s: &promring::config::Setting| {
        format!("| `{}` | `{}` | {} | {} |\n", s.env, s.name, s.default, s.doc)
    };
    let table: String = SETTINGS.iter().map(row).collect();
    assert!(readme.contains(&table), "the README's table of settings should be:\n\n{table}");
}

#[test]
fn the_architecture_page_knows_every_module() {
    let page = read(Path::new("core/docs/architecture.md"));
    let unknown = |(module, _): &(String, String)| !page.contains(&format!("`{module}.rs`"));
    let missing: Vec<String> = core_modules().into_iter().filter(unknown).map(|(m, _)| m).collect();
    expect_none(&missing);
}

#[test]
fn the_papers_name_only_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut errors = Vec::new();
    for (path, text) in sources("md") {
        let folder = root.join(path.parent().unwrap());
        let links = text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            if !folder.join(link).exists() {
                errors.push(format!("{}: links to {link}", path.display()));
            }
        }
    }
    let ours = ["core/", "ruby-ext/", "python-ext/", "gems/", "wheels/", "examples/", "ci/"];
    for page in ["README.md", "core/docs/promises.md"] {
        let text = read(Path::new(page));
        for word in text.split('`').skip(1).step_by(2).flat_map(str::split_whitespace) {
            if ours.iter().any(|start| word.starts_with(start)) && !root.join(word).exists() {
                errors.push(format!("{page}: names {word}"));
            }
        }
    }
    expect_none(&errors);
}
