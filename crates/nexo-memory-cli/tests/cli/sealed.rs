//! Encrypted snapshots, as people have them: with the identity everything works, without it what can be known
//! is said, and nothing in the open tells what is inside.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Home, Said, chmod, json as goldens, text};

/// A home whose agents' snapshots are encrypted, and the recipient. Its identity is `key`, which the
/// configuration does not name.
pub(super) fn sealed() -> (Home, String) {
    let home = goldens::seeded();
    let (made, code) = home.json(&["keygen", "--age", "--to", "key"]);
    assert_eq!(code, 0, "{made}");
    let recipient = text(&made["recipient"]).to_owned();
    let config = fs::read_to_string(home.path("empty.yaml")).unwrap();
    let section = format!("encryption: {{ enabled: true, recipients: [{recipient}] }}, agents");
    home.write("empty.yaml", &config.replacen("agents", &section, 1));
    (home, recipient)
}

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Runs it with a variable, or with something on stdin.
fn run_with(home: &Home, args: &[&str], variable: Option<(&str, &str)>, stdin: &str) -> Said {
    let mut command = home.command(args);
    command.envs(variable).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { out: text(output.stdout), err: text(output.stderr), code: output.status.code().unwrap() }
}

/// Would catch: a verb that cannot work with an encrypted bundle, one that needs the identity and does not
/// say so, one that says more than it knows.
#[test]
fn each_verb_works_with_the_identity_and_says_what_it_can_without() {
    let (home, _) = sealed();
    let (taken, code) = home.json(&["snapshot", "--agent", "ana", "--label", "first"]);
    assert_eq!((code, &taken["encrypted"]), (0, &json!(true)), "{taken}");
    let id = text(&taken["id"]).to_owned();
    assert!(text(&taken["bundle_path"]).ends_with(".tar.zst.age"));
    goldens::live_on(&home);
    let key = ["--decrypt-identity", "key"];
    let of_ana = ["--agent", "ana"];
    for (args, without) in [
        (["verify", &id].as_slice(), 12),
        (&["list"], 0),
        (&["show", &id], 8),
        (&["ls", &id], 8),
        (&["cat", &id, "memory_files/MEMORY.md"], 8),
        (&["cat", &id, "git@main:MEMORY.md"], 8),
        (&["extract", &id, "memory_files", "--to", "look"], 8),
        (&["diff", &id, "live", "--agent", "ana"], 8),
        (&["restore", &id, "--agent", "ana", "--dry-run"], 8),
        (&["restore", &id, "--agent", "ana", "--to", "back"], 8),
        (&["export", &id, "--to", "clear", "--decrypt"], 8),
        (&["import", "as-is"], 8),
        (&["show", "@first", "--agent", "ana"], 8),
    ] {
        let args: Vec<&str> = match args {
            ["import", _] => {
                let export = ["export", &id, "--to", "as-is"];
                assert_eq!(home.run(&export).code, 0, "a copy needs no identity");
                let elsewhere = ["--root", "elsewhere"];
                let bundle: &str = Box::leak(format!("as-is/{id}.tar.zst.age").into_boxed_str());
                with(&["import", bundle], &elsewhere)
            }
            args => args.to_vec(),
        };
        let said = home.run(&args);
        assert_eq!(said.code, without, "{args:?}: {said:?}");
        if without == 8 {
            assert!(said.err.contains("try: --decrypt-identity FILE"), "{said:?}");
        }
        let said = home.run(&with(&args, &key));
        assert_eq!(said.code, 0, "{args:?} with the identity: {said:?}");
    }
    let (report, _) = home.json(&["verify", &id]);
    assert_eq!(report["inside"], "not_checked");
    assert_eq!(
        (&report["manifest_ok"], &report["bundle_sha256_ok"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        fs::read_to_string(home.path("look/memory_files/MEMORY.md")).unwrap(),
        "the user likes coffee\n"
    );
    assert_eq!(
        fs::read_to_string(home.path("back/memory_files/MEMORY.md")).unwrap(),
        "the user likes coffee\n"
    );
    assert!(home.path(&format!("clear/{id}.tar.zst")).exists(), "{:?}", files(&home.path("clear")));
    let listed = home.run(&["list"]);
    assert!(listed.out.contains("(encrypted)"), "{listed:?}");
    // The live agent is put back, and the way back is encrypted too.
    let restore = with(&["restore", &id, "--yes"], &with(&of_ana, &key));
    assert_eq!(home.run(&restore).code, 0);
    assert_eq!(fs::read_to_string(home.path("mem/MEMORY.md")).unwrap(), "the user likes coffee\n");
    let bundles: Vec<PathBuf> = files(&home.path("vault"))
        .into_iter()
        .filter(|p| p.to_string_lossy().contains(".tar.zst"))
        .collect();
    assert_eq!(bundles.len(), 4, "two bundles, two checksum files: {bundles:?}");
    assert!(
        bundles.iter().all(|path| path.to_string_lossy().contains(".tar.zst.age")),
        "{bundles:?}"
    );
}

/// Would catch: an identity that is read from nowhere but a flag, or from a file that everybody can read.
#[test]
fn identities_come_from_files_variables_stdin_and_the_configuration() {
    let (home, _) = sealed();
    home.run(&["snapshot", "--agent", "ana"]);
    let key = fs::read_to_string(home.path("key")).unwrap();
    let verify = ["verify", "latest", "--agent", "ana"];
    assert_eq!(run_with(&home, &verify, Some(("NEXO_MEMORY_IDENTITY", &key)), "").code, 0);
    let stdin = with(&verify, &["--decrypt-identity", "-"]);
    assert_eq!(run_with(&home, &stdin, None, &key).code, 0);
    let config = fs::read_to_string(home.path("empty.yaml")).unwrap();
    let named = "encryption: { identity_path: key, ";
    home.write("named.yaml", &config.replacen("encryption: { ", named, 1));
    let named = with(&verify, &["--config", "named.yaml"]);
    assert_eq!(home.run(&named).code, 0);
    // A flag wins over the configuration.
    home.run(&["keygen", "--age", "--to", "other"]);
    assert_eq!(home.run(&with(&named, &["--decrypt-identity", "other"])).code, 8);
    for mode in [0o644, 0o640, 0o604] {
        chmod(&home.path("key"), mode);
        let said = home.run(&with(&verify, &["--decrypt-identity", "key"]));
        assert_eq!(said.code, 8, "{said:?}");
        assert!(said.err.contains("others can read it"), "{said:?}");
    }
    for (bad, told) in [("nowhere", "No such file"), (".", "a folder")] {
        let said = home.run(&with(&verify, &["--decrypt-identity", bad]));
        assert_eq!(said.code, 8, "{said:?}");
        assert!(said.err.contains(told), "{said:?}");
    }
    // What a bad file holds is not repeated.
    let secret = key.lines().last().unwrap();
    let (rest, last) = secret.split_at(secret.len() - 1);
    let other = if last == "X" { "Y" } else { "X" };
    let mistyped = home.write("mistyped", &format!("{rest}{other}\n"));
    chmod(Path::new(&mistyped), 0o600);
    let said = home.run(&with(&verify, &["--decrypt-identity", "mistyped"]));
    assert!(said.code == 2 && said.err.contains("line 1"), "{said:?}");
    assert!(!said.err.contains(&secret[20..40]), "{said:?}");
}

/// Would catch: a policy that cannot be overridden, or that is overridden without a word; recipients that are
/// not taken from where they are said.
#[test]
fn what_is_encrypted_and_for_whom_is_as_it_was_said() {
    let (home, recipient) = sealed();
    let (theirs, _) = home.json(&["keygen", "--age", "--to", "theirs"]);
    let theirs = text(&theirs["recipient"]).to_owned();
    home.write("team.txt", &format!("# the team\n{theirs}\n{recipient}\n{theirs}\n"));
    let take = |more: &[&str]| home.json(&with(&["snapshot", "--agent", "ana"], more)).0;
    let ends = |meta: &Value| -> BTreeSet<String> {
        let all = meta["encryption"]["recipients_fingerprint"].as_array().unwrap();
        all.iter().map(|end| text(end).to_owned()).collect()
    };
    let end = |recipient: &str| recipient[recipient.len() - 16..].to_owned();
    assert_eq!(ends(&take(&[])), [end(&recipient)].into());
    assert_eq!(ends(&take(&["--encrypt", &theirs])), [end(&theirs)].into());
    assert_eq!(ends(&take(&["--encrypt", &format!("age:{theirs}")])), [end(&theirs)].into());
    assert_eq!(
        ends(&take(&["--recipients-file", "team.txt"])),
        [end(&theirs), end(&recipient)].into()
    );
    let open = take(&["--no-encrypt"]);
    assert_eq!((&open["encrypted"], open.get("encryption")), (&json!(false), None));
    let (_, code) =
        home.json(&["snapshot", "--agent", "ana", "--no-encrypt", "--encrypt", &theirs]);
    assert_eq!(code, 2);
    // A passphrase.
    let phrase = Some(("NEXO_MEMORY_PASSPHRASE", "correct horse"));
    let taken =
        run_with(&home, &["snapshot", "--agent", "ana", "--passphrase", "--json"], phrase, "");
    let taken: Value = serde_json::from_str(&taken.out).unwrap();
    assert_eq!(taken["encryption"]["scheme"], "age-scrypt", "{taken}");
    let verify = ["verify", text(&taken["id"])];
    assert_eq!(run_with(&home, &verify, phrase, "").code, 0);
    assert_eq!(run_with(&home, &verify, Some(("NEXO_MEMORY_PASSPHRASE", "wrong")), "").code, 8);
    assert_eq!(home.run(&verify).code, 12);
    let nobody = home.run(&["snapshot", "--agent", "ana", "--passphrase"]);
    assert!(nobody.code == 2 && nobody.err.contains("NEXO_MEMORY_PASSPHRASE"), "{nobody:?}");
    // A label that may be read by all.
    let public = take(&["--label", "for all", "--public-label"]);
    assert_eq!(public["label"], "for all");
    assert_eq!(home.json(&["pin", "@for all", "--agent", "ana", "--reason", "x"]).1, 0);
}

/// Everything that a manifest says of what is inside, as text that must not be found outside.
fn inside(manifest: &Value) -> BTreeSet<String> {
    let mut secrets = BTreeSet::new();
    let mut add = |value: &Value| match value {
        Value::String(text) => _ = secrets.insert(text.clone()),
        Value::Number(n) if n.as_u64().is_some_and(|n| n > 99) => _ = secrets.insert(n.to_string()),
        _ => {}
    };
    add(&manifest["label"]);
    for artifact in manifest["artifacts"].as_array().unwrap() {
        for key in ["path_in_bundle", "sha256", "size_bytes", "mtime_ns"] {
            add(&artifact[key]);
        }
        add(&artifact["sqlite"]["store"]);
        if let Some(name) = artifact["path_in_bundle"].as_str().unwrap().rsplit('/').next() {
            add(&name.into());
        }
    }
    for key in ["head_oid", "head_subject", "head_author", "head_ref"] {
        add(&manifest["git"][key]);
    }
    for missing in manifest["capture"]["not_carried"].as_array().unwrap() {
        add(&missing["path"]);
    }
    // What says nothing: a name of one letter, a word of ours, and the four that every summary has the version of.
    let ours = ["long_term", "vector", "concepts", "compactions", "notes", "link"];
    secrets.retain(|secret| secret.len() > 3 && !ours.contains(&secret.as_str()));
    secrets
}

/// Whether a text holds a secret; a number only where it stands alone, for ids and digests are full of digits.
fn tells(content: &str, secret: &str) -> bool {
    let number = secret.bytes().all(|byte| byte.is_ascii_digit());
    let goes_on = |c: char| c.is_alphanumeric() || c == '-';
    content.match_indices(secret).any(|(at, found)| {
        let (before, after) =
            (content[..at].chars().next_back(), content[at + found.len()..].chars().next());
        !number || !before.is_some_and(goes_on) && !after.is_some_and(goes_on)
    })
}

/// Would catch: a name, a label, a digest, an object's id or a size of what is inside, in a summary, a file's
/// name, a note, or an answer of any verb to somebody without the identity.
#[test]
fn nothing_in_the_open_tells_what_is_inside() {
    let (home, _) = sealed();
    let config = fs::read_to_string(home.path("empty.yaml")).unwrap();
    home.write(
        "empty.yaml",
        &config.replace("long_term: facts.db", "long_term: facts.db, therapy: t.db"),
    );
    super::database(
        &home.path("t.db"),
        "CREATE TABLE sessions (notes); INSERT INTO sessions VALUES ('x')",
    );
    home.write("mem/salary-negotiation.md", &"she asks for more\n".repeat(321));
    std::os::unix::net::UnixListener::bind(home.path("mem/agent.socket")).unwrap();
    let (taken, _) = home.json(&["snapshot", "--agent", "ana", "--label", "before-leaving"]);
    let id = text(&taken["id"]).to_owned();
    let key = ["--decrypt-identity", "key"];
    let (shown, code) = home.json(&with(&["show", &id], &key));
    assert_eq!(code, 0, "{shown}");
    let mut secrets = inside(&shown["manifest"]);
    for expected in ["salary-negotiation.md", "before-leaving", "therapy", "agent.socket", "5778"] {
        assert!(secrets.contains(expected), "{expected} is not looked for: {secrets:?}");
    }
    assert!(secrets.len() > 20, "{secrets:?}");
    let plain = home.json(&with(&["export", &id, "--to", "clear", "--decrypt"], &key)).0;
    let plain = home.real(&plain["written"][0]);
    let summary: Value = serde_json::from_slice(
        &fs::read(plain.to_string_lossy().replace(".tar.zst", ".manifest.json")).unwrap(),
    )
    .unwrap();
    for of_plain in ["root_digest", "bundle_sha256", "bundle_size_bytes", "git_oid"] {
        secrets.insert(summary[of_plain].to_string().trim_matches('"').to_owned());
    }
    // The same for a damaged one, which is read with the identity and noted.
    let (second, _) = home.json(&["snapshot", "--agent", "ana", "--label", "before-leaving"]);
    let path = home.real(&second["bundle_path"]);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let damaged = home.run(&with(&["verify", text(&second["id"])], &key));
    assert_eq!(damaged.code, 4, "{damaged:?}");
    home.run(&with(&["restore", &id, "--agent", "ana", "--yes"], &key));

    let mut open = Vec::new();
    for args in [
        ["list", "--json"].as_slice(),
        &["list"],
        &["status", "--json"],
        &["status"],
        &["verify", "--all", "--json"],
        &["verify", "--all"],
        &["verify", &id],
        &["prune", "--dry-run", "--json"],
        &["prune", "--dry-run"],
        &["show", &id],
        &["cat", &id, "memory_files/x"],
        &["doctor", "--agent", "ana"],
        &["doctor", "--agent", "ana", "--fix"],
        &["export", &id, "--to", "copy", "--json"],
    ] {
        let said = home.run(args);
        open.push((format!("the answer to {args:?}"), format!("{}{}", said.out, said.err)));
    }
    for path in files(&home.path("vault")).into_iter().chain(files(&home.path("copy"))) {
        let content = fs::read(&path).unwrap();
        let name = path.strip_prefix(home.0.path()).unwrap().to_string_lossy().into_owned();
        open.push((format!("{name}, by its name"), name.clone()));
        open.push((name, String::from_utf8_lossy(&content).into_owned()));
    }
    assert!(open.iter().any(|(what, _)| what.ends_with(".manifest.json")), "nothing was looked at");
    for (what, content) in &open {
        for secret in &secrets {
            // `doctor` looks at the live memory, and names it.
            let live = what.contains("doctor") && home.path("mem").join(secret).exists();
            let live = live || what.contains("doctor") && secret == "therapy";
            assert!(live || !tells(content, secret), "{what} tells {secret}: {content}");
        }
    }
    for meta in [&taken, &second] {
        for absent in ["label", "git_oid"] {
            assert!(meta.get(absent).is_none(), "{meta}");
        }
        assert_eq!(meta["capture"]["stores"], json!([]));
        assert_eq!(meta["capture"]["not_carried"], json!([]));
        assert_eq!(meta["whole"], false, "that something is missing may be known, not what");
    }
}

/// Would catch: new readers who cannot read, old ones who still can, content that changes, a snapshot that is
/// left out without a word.
#[test]
fn rekeying_changes_the_readers_and_nothing_else() {
    let (home, old) = sealed();
    for label in ["one", "two"] {
        home.json(&["snapshot", "--agent", "ana", "--label", label]);
    }
    home.json(&["snapshot", "--agent", "ana", "--no-encrypt", "--label", "three"]);
    let content = |key: &str, which: &str| {
        let args = ["show", which, "--agent", "ana", "--decrypt-identity", key];
        let (shown, code) = home.json(&args);
        (shown["manifest"].clone(), code)
    };
    let labels = ["@one", "@two", "@three"];
    let before = labels.map(|label| content("key", label).0);
    let new = text(&home.json(&["keygen", "--age", "--to", "new"]).0["recipient"]).to_owned();
    let rekey = ["rekey", "--agent", "ana", "--encrypt", &new];
    let asks = home.run(&rekey);
    assert_eq!(asks.code, 6, "{asks:?}");
    let without = home.run(&with(&rekey, &["--yes"]));
    assert_eq!(without.code, 8, "{without:?}");
    let (done, code) = home.json(&with(&rekey, &["--yes", "--decrypt-identity", "key"]));
    // The plain one was done already, and only the new readers can look into it.
    assert_eq!((code, done["rekeyed"].as_array().unwrap().len()), (0, 2), "{done}");
    assert_eq!(done["unchanged"].as_array().unwrap().len(), 1, "{done}");
    for (label, before) in labels.iter().zip(&before) {
        assert_eq!(content("new", label), (before.clone(), 0), "{label}");
        assert_ne!(content("key", label).1, 0, "{label}: the old identity still reads it");
    }
    let (verified, code) = home.json(&["verify", "--agent", "ana", "--decrypt-identity", "new"]);
    assert_eq!(code, 0, "{verified}");
    // By its summary alone none is left as it is: that may name fewer than can read it.
    let (again, code) = home.json(&with(&rekey, &["--yes", "--decrypt-identity", "new"]));
    assert_eq!((code, again["rekeyed"].as_array().unwrap().len()), (0, 3), "{again}");
    let (later, code) = home.json(&with(&rekey, &["--yes", "--decrypt-identity", "key"]));
    assert_eq!((code, later["unchanged"].as_array().unwrap().len()), (0, 3), "{later}");
    // By the policy, back to the old name; and nothing is left of the other.
    let back = ["rekey", "--agent", "ana", "--yes", "--decrypt-identity", "new"];
    assert_eq!(home.run(&back).code, 0);
    let (listed, _) = home.json(&["list"]);
    for meta in listed["snapshots"].as_array().unwrap() {
        assert!(
            text(&meta["encryption"]["recipients_fingerprint"][0]).ends_with(&old[old.len() - 4..])
        );
    }
    let bundles = files(&home.path("vault/tenants/default/snapshots/ana"));
    assert_eq!(bundles.len(), 9, "{bundles:?}");
    assert_eq!(
        home.run(&["doctor", "--agent", "ana", "--decrypt-identity", "key"]).code,
        home.run(&["doctor", "--agent", "ana"]).code
    );
}

/// Would catch: a label that seems to be gone because it is inside; a copy in staging that an error names, of which
/// nobody knows.
#[test]
fn what_could_not_be_looked_into_is_told_by_its_name() {
    let (home, _) = sealed();
    let (taken, _) = home.json(&["snapshot", "--agent", "ana", "--label", "inside"]);
    for (key, label, code) in
        [(None, "@inside", 8), (Some("key"), "@inside", 0), (Some("key"), "@nowhere", 3)]
    {
        let key = key.map(|key| ["--decrypt-identity", key]);
        let key = key.as_ref().map_or(&[][..], |key| &key[..]);
        let said = home.run(&with(&["show", label, "--agent", "ana"], key));
        assert_eq!(said.code, code, "{said:?}");
    }
    let bundle = home.real(&taken["bundle_path"]);
    let lone = home.write("in/lone.tar.zst.age", "");
    fs::copy(bundle, &lone).unwrap();
    let refused = home.run(&["import", &lone, "--root", "elsewhere"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert!(refused.err.contains("in/lone.tar.zst.age is encrypted"), "{refused:?}");
}

/// Would catch: a label that a writer of the storage asks for, and that a summary written anew then tells.
#[test]
fn a_summary_written_anew_tells_no_label_that_is_not_public() {
    let (home, _) = sealed();
    for (label, public) in [("SECRET", false), ("OPEN", true)] {
        let mut take = vec!["snapshot", "--agent", "ana", "--label", label];
        take.extend(public.then_some("--public-label"));
        let (taken, _) = home.json(&take);
        let bundle = home.real(&taken["bundle_path"]);
        let summary = bundle.to_str().unwrap().replace(".tar.zst.age", ".manifest.json");
        let mut said: Value = serde_json::from_slice(&fs::read(&summary).unwrap()).unwrap();
        said["label"] = "zzz".into();
        fs::write(&summary, said.to_string()).unwrap();
        let key = ["--decrypt-identity", "key"];
        let fixed = home.run(&with(&["doctor", "--fix", "--agent", "ana"], &key));
        assert_eq!(fixed.code, 0, "{fixed:?}");
        let told = fs::read_to_string(&summary).unwrap();
        assert_eq!(told.contains(label), public, "{told}");
        assert!(!told.contains("zzz"), "{told}");
    }
}

/// Would catch: access that is told to be revoked and is not, because a summary that was written anew names
/// only who read the bundle for it.
#[test]
fn a_summary_that_names_too_few_keeps_nobody_in() {
    let (home, ours) = sealed();
    let theirs = text(&home.json(&["keygen", "--age", "--to", "theirs"]).0["recipient"]).to_owned();
    let take = ["snapshot", "--agent", "ana", "--encrypt", &ours, "--encrypt", &theirs];
    let (taken, _) = home.json(&take);
    let bundle = home.real(&taken["bundle_path"]);
    let stem = bundle.to_str().unwrap().trim_end_matches(".tar.zst.age").to_owned();
    fs::remove_file(format!("{stem}.manifest.json")).unwrap();
    let key = ["--decrypt-identity", "key"];
    assert_eq!(home.run(&with(&["doctor", "--agent", "ana", "--fix"], &key)).code, 0);
    let rekey = ["rekey", "--agent", "ana", "--encrypt", &ours, "--yes"];
    let (done, code) = home.json(&with(&rekey, &key));
    assert_eq!((code, done["rekeyed"].as_array().unwrap().len()), (0, 1), "{done}");
    let shown = |key| home.run(&["show", "latest", "--agent", "ana", "--decrypt-identity", key]);
    assert_eq!((shown("key").code, shown("theirs").code), (0, 8));
}

/// Would catch: a plain snapshot that is left in the clear with success, for nobody said for whom.
#[test]
fn rekeying_for_nobody_is_refused() {
    let home = goldens::seeded();
    home.json(&["snapshot", "--agent", "ana"]);
    let refused = home.run(&["rekey", "--agent", "ana", "--yes"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("nothing says for whom"), "{refused:?}");
    assert_eq!(home.run(&["rekey"]).code, 2, "asked before it was said what");
}

/// Would catch: the old passphrase, which opens, taken for the new one too.
#[test]
fn a_passphrase_is_changed_by_variables() {
    let home = goldens::seeded();
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = home.command(args);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        output.status.code().unwrap()
    };
    let (old, new) = (("NEXO_MEMORY_PASSPHRASE", "old"), ("NEXO_MEMORY_NEW_PASSPHRASE", "new"));
    assert_eq!(run(&["snapshot", "--agent", "ana", "--passphrase"], &[old]), 0);
    let rekey = ["rekey", "latest", "--agent", "ana", "--passphrase", "--yes"];
    assert_eq!(run(&rekey, &[old]), 2, "no new one was given");
    assert_eq!(run(&rekey, &[old, new]), 0);
    let show = ["show", "latest", "--agent", "ana"];
    assert_eq!(run(&show, &[old]), 8);
    assert_eq!(run(&show, &[("NEXO_MEMORY_PASSPHRASE", "new")]), 0);
}

/// Would catch: a damaged header that reads as a missing key, for which an operator looks in vain; a good bundle
/// called damaged for its summary.
#[test]
fn a_damaged_header_is_no_wrong_key_and_a_wrong_summary_no_damage() {
    let (home, _) = sealed();
    let (taken, _) = home.json(&["snapshot", "--agent", "ana"]);
    let bundle = home.real(&taken["bundle_path"]);
    let genuine = fs::read(&bundle).unwrap();
    let mut flipped = genuine.clone();
    flipped[60] ^= 1;
    fs::write(&bundle, flipped).unwrap();
    let key = ["--agent", "ana", "--decrypt-identity", "key"];
    for verb in [&["show", "latest"][..], &["restore", "latest", "--yes"]] {
        let said = home.run(&with(verb, &key));
        assert_eq!(said.code, 4, "{said:?}");
    }
    fs::write(&bundle, genuine).unwrap();
    let summary = bundle.to_str().unwrap().replace(".tar.zst.age", ".manifest.json");
    let said = fs::read_to_string(&summary).unwrap();
    fs::write(&summary, said.replace("\"whole\": true", "\"whole\": false")).unwrap();
    assert_eq!(home.run(&with(&["verify", "latest"], &key)).code, 4);
    let status = home.run(&["status", "--agent", "ana"]);
    assert!(!status.out.contains("contents are damaged"), "{status:?}");
    assert_eq!(home.run(&with(&["doctor", "--fix"], &key)).code, 0);
    assert_eq!(home.run(&with(&["verify", "latest"], &key)).code, 0);
}

/// Would catch: a key file that is overwritten; keys shown in a form that the configuration does not take.
#[test]
fn what_keygen_shows_is_a_configuration() {
    let home = goldens::seeded();
    home.write("keys/signing.pub", "of another key");
    let refused = home.run(&["keygen", "--sign", "--to", "keys/signing"]);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert_eq!(fs::read_to_string(home.path("keys/signing.pub")).unwrap(), "of another key");
    assert!(!home.path("keys/signing").exists());
    for (kind, key) in [("--age", "encryption"), ("--sign", "signing_key_path")] {
        let mut command = home.command(&["keygen", kind, "--to", &format!("keys/{key}")]);
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        let config: String =
            lines.iter().take_while(|l| !l.starts_with("nexo")).map(|l| format!("{l}\n")).collect();
        home.write("shown/memory.yaml", &config);
        let (shown, code) = home.json(&["config", "show", "--config", "shown/memory.yaml"]);
        assert_eq!(code, 0, "{shown}");
        assert!(config.contains(key) && shown.to_string().contains(key), "{config} {shown}");
        let checked = home.run(&["config", "check", "--config", "shown/memory.yaml"]);
        assert_eq!(checked.code, 0, "{checked:?}");
    }
    home.write("dotted.yaml", "memory.snapshot.encryption: { enabled: true }\n");
    let dotted = home.run(&["snapshot", "--agent", "ana", "--config", "dotted.yaml"]);
    assert_eq!(dotted.code, 2, "{dotted:?}");
    assert!(dotted.err.contains("nest the mappings"), "{dotted:?}");
}

/// Would catch: a vault that is open to others where the umask is, or a secret that is.
#[test]
fn whatever_the_umask_only_the_owner_reads() {
    let (home, recipient) = sealed();
    let program = assert_cmd::cargo::cargo_bin!("nexo-memory").to_str().unwrap().to_owned();
    let open = |args: &[&str]| {
        let mut command = Command::new("sh");
        let base = home.command(&[]);
        command.env_clear();
        for (name, value) in base.get_envs() {
            command.env(name, value.unwrap());
        }
        command.args(["-c", "umask 0; exec \"$0\" \"$@\"", &program]).args(args);
        let output = command.current_dir(home.0.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    open(&["keygen", "--age", "--to", "secret"]);
    open(&["keygen", "--sign", "--to", "signing"]);
    open(&["snapshot", "--agent", "ana", "--label", "a"]);
    open(&["restore", "@a", "--agent", "ana", "--yes", "--decrypt-identity", "key"]);
    open(&["pin", "latest", "--agent", "ana", "--reason", "x"]);
    open(&[
        "export",
        "latest",
        "--agent",
        "ana",
        "--to",
        "out",
        "--decrypt",
        "--decrypt-identity",
        "key",
    ]);
    open(&[
        "rekey",
        "--agent",
        "ana",
        "--yes",
        "--encrypt",
        &recipient,
        "--decrypt-identity",
        "key",
    ]);
    let mut looked = 0;
    let mut stack = vec![home.path("vault")];
    while let Some(dir) = stack.pop() {
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700, "{}", dir.display());
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
                continue;
            }
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
            looked += 1;
        }
    }
    assert!(looked > 8, "{looked}");
    for secret in ["secret", "signing"] {
        assert_eq!(fs::metadata(home.path(secret)).unwrap().mode() & 0o777, 0o600, "{secret}");
    }
    for path in files(&home.path("out")) {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
    }
    let again = home.run(&["keygen", "--age", "--to", "secret"]);
    assert_eq!(again.code, 6, "a key was replaced: {again:?}");
}

/// A stock program, or none: then what it would show is not shown, which is said, and in CI is a failure.
#[expect(clippy::print_stderr, reason = "what is not run is said")]
pub(super) fn stock(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is needed in CI");
        eprintln!("NOT RUN: {name} is not installed");
    }
    found
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Would catch: an envelope that only we can open, or a stock one that we cannot.
#[test]
fn stock_age_opens_ours_and_we_open_its() {
    let (Some(age), Some(keygen)) = (stock("age"), stock("age-keygen")) else { return };
    let (home, ours) = sealed();
    run(Command::new(&keygen).arg("-o").arg(home.path("theirs")));
    let theirs = run(Command::new(&keygen).arg("-y").arg(home.path("theirs"))).trim().to_owned();
    let take = ["snapshot", "--agent", "ana", "--encrypt", &ours, "--encrypt", &theirs];
    let (taken, code) = home.json(&take);
    assert_eq!(code, 0, "{taken}");
    let bundle = home.real(&taken["bundle_path"]);
    let manifest = |key: &str| {
        let pipe = "\"$0\" -d -i \"$1\" \"$2\" | tar --zstd -xO manifest.json";
        let mut shell = Command::new("sh");
        let out = run(shell.args(["-c", pipe]).arg(&age).arg(home.path(key)).arg(&bundle));
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let (shown, _) = home.json(&["show", text(&taken["id"]), "--decrypt-identity", "theirs"]);
    assert_eq!(manifest("key"), shown["manifest"]);
    assert_eq!(manifest("theirs"), shown["manifest"]);
    // Of a plain bundle, by the stock program, and ours by its key file.
    let (plain, _) = home.json(&["snapshot", "--agent", "ana", "--no-encrypt"]);
    fs::create_dir(home.path("in")).unwrap();
    let sealed = home.path(&format!("in/{}.tar.zst.age", text(&plain["id"])));
    let mut encrypt = Command::new(&age);
    run(encrypt.args(["-r", &theirs, "-o"]).arg(&sealed).arg(home.real(&plain["bundle_path"])));
    let sealed = sealed.to_str().unwrap();
    let key = ["--decrypt-identity", "theirs", "--root", "elsewhere"];
    let (imported, code) = home.json(&with(&["import", sealed], &key));
    assert_eq!(code, 0, "{imported}");
    assert_eq!(imported[0]["snapshot"]["encrypted"], true);
    assert_eq!(home.run(&with(&["verify", text(&plain["id"])], &key)).code, 0);
}
