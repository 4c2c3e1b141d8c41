//! The damaged bundles of `fixtures/damaged`, one for each kind of damage: what a verification says of each,
//! and that every verb stops.

#[path = "../../examples/damaged_bundles/report.rs"]
mod report;

use std::fs;
use std::path::{Path, PathBuf};

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::ImportRequest;
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::request::{
    DecryptionIdentity, Encryption, RestoreRequest, RestoreTarget, Secret, SnapshotRef,
};
use report::{TEXT, class};
use snapshot_bundle::Identities;

use crate::support::{Home, ana};

/// Fewer kinds than there were when this was written.
const KINDS: usize = 60;

fn fixtures(folder: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../")).join(folder)
}

fn identity() -> String {
    fs::read_to_string(fixtures("fixtures/sealed").join("identity.txt")).unwrap()
}

/// Name of each bundle, and its text.
fn damaged() -> Vec<(String, String)> {
    let dir = fixtures("fixtures/damaged");
    let names = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let bundles = names.filter(|name| name.contains(".tar.zst"));
    let text = |name: &str| {
        let stem = name.split_once(".tar.zst").unwrap().0;
        fs::read_to_string(dir.join(format!("{stem}{TEXT}"))).unwrap()
    };
    let mut all: Vec<_> = bundles.map(|name| (name.clone(), text(&name))).collect();
    all.sort();
    assert!(all.len() >= KINDS, "{} kinds", all.len());
    all
}

/// Would catch: damage of some kind that is reported as another class of error, as none, or in other words
/// than before; a golden whose header says what nobody checks.
#[test]
fn each_kind_of_damage_ends_as_its_header_says() {
    let identities = Identities::parse(&identity()).unwrap();
    for (name, text) in damaged() {
        let dir = fixtures("fixtures/damaged");
        let (kind, report) = report::report(&dir, &name, &identities).unwrap();
        let header = text.lines().next().unwrap();
        assert_eq!(header, class(kind.expect(&name)), "{name}");
        assert!(text.ends_with(&format!("\n\n{report}\n")), "{name}: {report}");
    }
}

/// Would catch: a verb that goes on with what `verify` calls damaged, or leaves something of it.
#[test]
fn no_verb_takes_a_damaged_bundle() {
    let home = Home::new();
    let identity = DecryptionIdentity::AgeIdentities(Secret::new(identity()));
    let engine = home.builder().identity(identity).build().unwrap();
    let (tenant, control) = (Tenant::default(), Control::default());
    for (name, text) in damaged() {
        let path = fixtures("fixtures/damaged").join(&name);
        let at = SnapshotRef::Path(path.clone());
        let header =
            |kind: ErrorKind| assert_eq!(text.lines().next().unwrap(), class(kind), "{name}");
        let verified =
            engine.resolve(&tenant, None, &at).and_then(|meta| engine.verify(&meta, &control));
        header(verified.map_or_else(|e| e.kind(), |report| report.error_kind().expect(&name)));

        let mut restore = RestoreRequest::new(ana(), tenant.clone(), at);
        restore.target = RestoreTarget::Dir(home.path().join("restored"));
        match engine.plan_restore(&restore, &control).expect_err(&name).kind() {
            // Whose it says it is comes before anything else of it.
            ErrorKind::Refused => assert_eq!(name, "summary-agent-edited.tar.zst"),
            kind => header(kind),
        }

        let (agent, encrypt) = (None, Encryption::Never);
        let import = ImportRequest { tenant: tenant.clone(), agent, foreign: false, encrypt };
        header(engine.import(&import, &path, &control).expect_err(&name).kind());
        assert_eq!(home.files(), Vec::<String>::new(), "{name}");
    }
}
