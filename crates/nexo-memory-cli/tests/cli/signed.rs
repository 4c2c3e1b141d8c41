//! Signed snapshots, as people have them: stock minisign verifies them, and where a signature is required
//! nothing else is taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::sealed::stock;
use super::{Home, text};

/// A home whose snapshots are signed, and must be.
fn signed() -> Home {
    let home = Home::new();
    home.write("mem/MEMORY.md", "the user likes tea\n");
    let (made, code) = home.json(&["keygen", "--sign", "--to", "signing.key"]);
    assert_eq!(code, 0, "{made}");
    let public = text(&made["public_key"]);
    home.write("empty.yaml", &config(public, "signing_key_path: signing.key,"));
    home.write("unsigned.yaml", &config(public, ""));
    home.write(
        "lenient.yaml",
        "memory: { snapshot: { root: vault, agents: { ana: { memdir: mem } } } }",
    );
    home
}

fn config(trusted: &str, signing: &str) -> String {
    format!(
        "memory: {{ snapshot: {{ root: vault, require_signature: true, trusted_keys: [{trusted}], {signing}
           agents: {{ ana: {{ memdir: mem }} }} }} }}"
    )
}

fn take(home: &Home, config: &str) -> Value {
    let (taken, code) = home.json(&["snapshot", "--agent", "ana", "--config", config]);
    assert_eq!(code, 0, "{taken}");
    taken
}

/// Would catch: a signature over other bytes than those that lie in the archive, or in a form of our own.
#[test]
fn stock_minisign_verifies_the_extracted_manifest() {
    let Some(minisign) = stock("minisign") else { return };
    let home = signed();
    let verify = |taken: &Value, public: &Path| {
        let dir = tempfile::tempdir().unwrap();
        let bundle = home.real(&taken["bundle_path"]);
        assert!(
            Command::new("tar")
                .args(["--zstd", "-xf"])
                .arg(bundle)
                .current_dir(dir.path())
                .status()
                .unwrap()
                .success()
        );
        let mut command = Command::new(&minisign);
        command.args(["-V", "-m", "manifest.json", "-p"]).arg(public).current_dir(dir.path());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let taken = take(&home, "empty.yaml");
    let (good, said) = verify(&taken, &home.path("signing.key.pub"));
    assert!(good && said.contains(text(&taken["id"])), "{said}");
    // With a key that the stock program made; and its own signature is ours to know.
    let made = Command::new(&minisign)
        .args(["-G", "-W", "-p", "stock.pub", "-s", "stock.key"])
        .current_dir(home.0.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    super::chmod(&home.path("stock.key"), 0o600);
    let args = ["snapshot", "--agent", "ana", "--sign", "stock.key"];
    let (taken, code) = home.json(&args);
    assert_eq!(code, 0, "{taken}");
    assert!(verify(&taken, &home.path("stock.pub")).0);
    assert!(!verify(&taken, &home.path("signing.key.pub")).0);
    // And the other way round: our key signs with the stock program.
    home.write("note", "hello");
    let signed = Command::new(&minisign)
        .args(["-S", "-s", "signing.key", "-m", "note"])
        .current_dir(home.0.path())
        .output()
        .unwrap();
    assert!(signed.status.success(), "{signed:?}");
}

/// Would catch: a restore, an import or a verification that takes what nobody trusted signed, or refuses what
/// somebody did.
#[test]
fn where_a_signature_is_required_nothing_else_is_taken() {
    let home = signed();
    let good = take(&home, "empty.yaml");
    assert_eq!(home.run(&["verify", text(&good["id"])]).code, 0);
    assert_eq!(home.run(&["restore", text(&good["id"]), "--agent", "ana", "--yes"]).code, 0);
    let unsigned = take(&home, "unsigned.yaml");
    home.json(&["keygen", "--sign", "--to", "stranger.key"]);
    let args = ["snapshot", "--agent", "ana", "--sign", "stranger.key"];
    let stranger = home.json(&args).0;
    for (taken, told) in [(&unsigned, "it has none"), (&stranger, "is not trusted")] {
        let id = text(&taken["id"]);
        let verified = home.run(&["verify", id]);
        assert_eq!(verified.code, 6, "{verified:?}");
        assert!(verified.out.contains(told) && verified.out.contains("refused"), "{verified:?}");
        let restored = home.run(&["restore", id, "--agent", "ana", "--yes"]);
        assert_eq!(restored.code, 6, "{restored:?}");
        assert!(restored.err.contains(told), "{restored:?}");
        let export = ["export", id, "--to", "out", "--whole"];
        assert_eq!(home.run(&export).code, 0, "what is refused may be looked at");
        let out = format!("out/{id}.tar.zst");
        let imported = home.run(&["import", &out, "--root", "elsewhere"]);
        assert_eq!(imported.code, 6, "{imported:?}");
        assert!(imported.err.contains(told), "{imported:?}");
        let lenient = ["import", &out, "--root", "elsewhere", "--config", "lenient.yaml"];
        assert_eq!(home.run(&lenient).code, 0);
    }
    assert!(!home.path("elsewhere/tenants/default/snapshots/ana").read_dir().unwrap().any(
        |entry| { entry.unwrap().file_name().to_string_lossy().starts_with(text(&good["id"])) }
    ));
    // A lone bundle keeps its signature: the summary made anew has it too.
    let id = text(&good["id"]);
    home.run(&["export", id, "--to", "lone", "--whole"]);
    for beside in [format!("lone/{id}.manifest.json"), format!("lone/{id}.tar.zst.sha256")] {
        fs::remove_file(home.path(&beside)).unwrap();
    }
    let (imported, code) =
        home.json(&["import", &format!("lone/{id}.tar.zst"), "--root", "another"]);
    assert_eq!(code, 0, "{imported}");
    assert_eq!(imported[0]["snapshot"]["attestation"], good["attestation"]);
    assert_eq!(home.run(&["verify", id, "--root", "another"]).code, 0);
}

/// Would catch: a forged, exchanged, re-labelled, re-tenanted or replayed bundle that passes for a genuine one.
/// Whoever can write to the vault also writes the files beside it.
#[test]
fn what_somebody_made_of_a_genuine_bundle_is_noticed() {
    let home = signed();
    let (old, new) = (take(&home, "empty.yaml"), take(&home, "empty.yaml"));
    let forged = take(&home, "unsigned.yaml");
    let place = |taken: &Value| home.real(&taken["bundle_path"]);
    let beside = |path: &Path| {
        let stem = path.to_str().unwrap().trim_end_matches(".tar.zst").to_owned();
        (
            PathBuf::from(format!("{stem}.manifest.json")),
            PathBuf::from(format!("{stem}.tar.zst.sha256")),
        )
    };
    // Replayed: the old bundle in the place of the new one, under a summary that says so.
    let genuine = fs::read(place(&new)).unwrap();
    let (summary, sum) = beside(&place(&new));
    let (old_summary, _) = beside(&place(&old));
    let (said, summed) = (fs::read_to_string(&summary).unwrap(), fs::read(&sum).unwrap());
    fs::copy(place(&old), place(&new)).unwrap();
    let mut replayed: Value = serde_json::from_slice(&fs::read(&old_summary).unwrap()).unwrap();
    for field in ["snapshot_id", "created_at_ms", "attestation"] {
        replayed[field] = serde_json::from_str::<Value>(&said).unwrap()[field].clone();
    }
    fs::write(&summary, replayed.to_string()).unwrap();
    fs::remove_file(&sum).unwrap();
    let id = text(&new["id"]);
    assert_eq!(home.run(&["verify", id]).code, 4);
    assert_eq!(home.run(&["restore", id, "--agent", "ana", "--yes"]).code, 4);
    fs::write(place(&new), genuine).unwrap();
    fs::write(&summary, &said).unwrap();
    fs::write(&sum, summed).unwrap();
    assert_eq!(home.run(&["verify", id]).code, 0, "the genuine one again");
    // Forged: an unsigned bundle under a summary that claims the attestation of a genuine one.
    let (forged_summary, _) = beside(&place(&forged));
    let mut claimed: Value = serde_json::from_slice(&fs::read(&forged_summary).unwrap()).unwrap();
    claimed["attestation"] = old["attestation"].clone();
    fs::write(&forged_summary, claimed.to_string()).unwrap();
    let id = text(&forged["id"]);
    assert_eq!(home.run(&["verify", id]).code, 4, "the summary is not the bundle's");
    let restored = home.run(&["restore", id, "--agent", "ana", "--yes"]);
    assert!([4, 6].contains(&restored.code), "{restored:?}");
    // It counts for nothing: the last good one is a genuine one.
    let (status, code) = home.json(&["status"]);
    assert_eq!(code, 11, "{status}");
    assert_eq!(status["agents"][0]["status"]["last_good"]["id"], new["id"], "{status}");
    // Re-tenanted: the genuine bundle, for another tenant and agent.
    let moved = home.path("vault/tenants/other/snapshots/bob");
    fs::create_dir_all(&moved).unwrap();
    let id = text(&new["id"]);
    fs::copy(place(&new), moved.join(format!("{id}.tar.zst"))).unwrap();
    let other = said.replace("\"default\"", "\"other\"").replace("\"ana\"", "\"bob\"");
    fs::write(moved.join(format!("{id}.manifest.json")), other).unwrap();
    let restored = home
        .run(&["restore", id, "--agent", "bob", "--tenant", "other", "--memdir", "bobs", "--yes"]);
    assert_eq!(restored.code, 4, "{restored:?}");
}

/// Would catch: what somebody put back under the summary of a genuine snapshot that was deleted, and that pushes
/// genuine ones out; a genuine one that goes because the label in its summary was taken away.
#[test]
fn junk_under_a_genuine_summary_pushes_no_signed_one_out() {
    let home = signed();
    let policy = fs::read_to_string(home.path("empty.yaml")).unwrap();
    let retention = "root: vault, retention: { keep_count: 2, keep_labels: [kept] },";
    home.write("empty.yaml", &policy.replace("root: vault,", retention));
    let (kept, _) = home.json(&["snapshot", "--agent", "ana", "--label", "kept"]);
    let genuine: Vec<Value> = (0..4).map(|_| take(&home, "empty.yaml")).collect();
    let beside = |meta: &Value| {
        let bundle = home.real(&meta["bundle_path"]);
        (bundle.to_str().unwrap().replace(".tar.zst", ".manifest.json"), bundle)
    };
    let edit = |summary: &str, change: &dyn Fn(&mut Value)| {
        let mut said: Value = serde_json::from_slice(&fs::read(summary).unwrap()).unwrap();
        change(&mut said);
        fs::write(summary, said.to_string()).unwrap();
    };
    for meta in &genuine[2..] {
        let (summary, bundle) = beside(meta);
        let said = fs::read(&summary).unwrap();
        let deleted = home.run(&["delete", text(&meta["id"]), "--agent", "ana", "--yes"]);
        assert_eq!(deleted.code, 0, "{deleted:?}");
        fs::write(&summary, said).unwrap();
        fs::write(&bundle, "junk").unwrap();
        edit(&summary, &|said| said["bundle_size_bytes"] = 4.into());
    }
    edit(&beside(&kept).0, &|said| _ = said.as_object_mut().unwrap().remove("label"));
    let pruned = home.run(&["prune", "--agent", "ana"]);
    assert_eq!(pruned.code, 0, "{pruned:?}");
    for meta in genuine[..2].iter().chain([&kept]) {
        assert!(beside(meta).1.exists(), "{pruned:?}");
    }
}

/// The secret key file `theirs`, which says that it is the key of `ours`: a key's number is in it, and is nobody's
/// word. Six bits a character, and the number's 64 end within one.
fn renumbered(theirs: &str, ours: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let key = |file: &str| file.lines().nth(1).unwrap().to_owned();
    let (theirs, ours) = (key(theirs), key(ours));
    let bits = |key: &str| DIGITS.iter().position(|d| *d == key.as_bytes()[82]).unwrap();
    let within = DIGITS[bits(&ours) & !3 | bits(&theirs) & 3] as char;
    format!("untrusted comment: x\n{}{}{within}{}\n", &theirs[..72], &ours[72..82], &theirs[83..])
}

/// Would catch: something read out of a bundle whose signature names a trusted key that did not make it, or a
/// signature that counts for its number.
#[test]
fn nothing_is_read_out_of_a_forged_one() {
    let home = signed();
    home.json(&["keygen", "--sign", "--to", "theirs.key"]);
    let file = |name: &str| fs::read_to_string(home.path(name)).unwrap();
    let forged = renumbered(&file("theirs.key"), &file("signing.key"));
    fs::write(home.path("theirs.key"), forged).unwrap();
    let take = ["snapshot", "--agent", "ana", "--sign", "theirs.key"];
    let said = home.run(&take);
    assert!(said.code == 0 && said.err.contains("cannot be restored"), "{said:?}");
    for verb in [
        &["show", "latest"][..],
        &["ls", "latest"],
        &["cat", "latest", "memory/MEMORY.md"],
        &["diff", "latest", "live"],
        &["export", "latest", "--whole", "--to", "out"],
        &["restore", "latest", "--yes"],
        &["verify", "latest"],
    ] {
        let said = home.run(&[verb, &["--agent", "ana"]].concat());
        assert_eq!(said.code, 4, "{verb:?} {said:?}");
    }
}

/// Would catch: a check of the configuration that is content with a key whose signatures nobody trusts.
#[test]
fn a_signing_key_that_is_not_trusted_is_told() {
    let home = signed();
    assert_eq!(home.run(&["config", "check"]).code, 0);
    home.json(&["keygen", "--sign", "--to", "other.key"]);
    let config = fs::read_to_string(home.path("empty.yaml")).unwrap();
    home.write("empty.yaml", &config.replace("signing.key", "other.key"));
    let said = home.run(&["config", "check"]);
    assert!(said.code == 11 && said.out.contains("trusted_keys"), "{said:?}");
    let said = home.run(&["snapshot", "--agent", "ana"]);
    assert!(said.code == 0 && said.err.contains("cannot be restored"), "{said:?}");
}

/// Would catch: retention that lets unsigned bundles push the signed ones out, or counts one as the last good.
#[test]
fn unsigned_snapshots_push_no_signed_one_out() {
    let home = signed();
    let good = take(&home, "empty.yaml");
    let policy = fs::read_to_string(home.path("empty.yaml")).unwrap();
    home.write(
        "empty.yaml",
        &policy.replace("root: vault,", "root: vault, retention: { keep_count: 2 },"),
    );
    for _ in 0..5 {
        take(&home, "unsigned.yaml");
    }
    let (plan, _) = home.json(&["prune", "--dry-run"]);
    let (pruned, code) = home.json(&["prune"]);
    assert_eq!(code, 0, "{plan} {pruned}");
    let (listed, _) = home.json(&["list"]);
    let ids: Vec<&Value> =
        listed["snapshots"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert!(ids.contains(&&good["id"]), "the signed one is gone: {plan}");
    let (status, _) = home.json(&["status"]);
    assert_eq!(status["agents"][0]["status"]["last_good"]["id"], good["id"]);
    // And it cannot be deleted: no other is good.
    let deleted = home.run(&["delete", text(&good["id"]), "--yes"]);
    assert_eq!(deleted.code, 6, "{deleted:?}");
    assert_eq!(
        home.json(&["verify", text(&good["id"])]).0["signature"]["status"],
        json!("trusted")
    );
}
