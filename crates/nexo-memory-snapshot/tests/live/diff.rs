//! What a comparison reads.

use std::fs;

use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::manifest::BundlePath;
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::request::{DiffRequest, DiffSide, SnapshotRef};
use snapshot_testkit::Random;

use crate::support::{World, ana, frames_needed};

/// Would catch: a comparison that reads what both sides have alike: stores, files, the history.
#[test]
fn what_both_sides_have_alike_is_not_read() {
    let world = World::tiny();
    let noise = |seed| Random::new(seed).bytes(5 << 19);
    for store in ["long_term", "concepts"] {
        let store = world.agent.connect(store).unwrap();
        store.execute("CREATE TABLE much AS SELECT ?1 AS noise", [noise(1)]).unwrap();
    }
    fs::write(world.agent.memdir().join("MEMORY.md"), noise(2)).unwrap();
    world.agent.git().run(&["commit", "-qam", "much"]).unwrap();
    let old = world.snapshot();
    world.agent.connect("concepts").unwrap().execute("DELETE FROM much", []).unwrap();
    let new = world.snapshot();
    let side = |id| DiffSide::Snapshot(SnapshotRef::Id(id));
    let (a, b) = (side(old.id), side(new.id));
    let request = DiffRequest { agent_id: ana(), tenant: Tenant::default(), a, b };
    let diff = || world.engine.diff(&request, &Control::default());
    let manifest = world.engine.manifest(&old).unwrap();
    let concepts =
        manifest.artifact(&BundlePath::parse("sqlite/concepts.sqlite").unwrap()).unwrap();
    let needed = frames_needed(&old.bundle_path, || diff().is_ok());
    // And the manifest.
    assert_eq!(needed as u64, concepts.size_bytes.div_ceil(1 << 20) + 1);
    assert_eq!(diff().unwrap().sqlite_summary.concepts_rows_removed, 1);
}
