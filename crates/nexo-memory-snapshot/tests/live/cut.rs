//! The cut under live writers: no snapshot holds a state that never existed.

use snapshot_testkit::{Journal, Seed, Torture, oracle};

use crate::support::World;

/// Cuts a journal mode; the two make the 200 of the gate.
const CUTS: u32 = 100;

/// Would catch: databases copied one after another, refs or state read outside the gates, a
/// half-transaction, an acknowledged write that is missing.
fn cuts_are_whole(journal: Journal) {
    let world = World::new(&Seed::tiny(3).with_journal(journal));
    let writers = Torture::start(&world.agent, 4).unwrap();
    let out = world.tmp.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let mut counters = std::collections::BTreeSet::new();
    for cut in 0..CUTS {
        writers.wait_for_steps(1).unwrap();
        let acknowledged = writers.acknowledged("long_term");
        let meta = world.snapshot();
        for store in ["long_term", "vector", "concepts", "compactions"] {
            let file = format!("{store}.sqlite");
            world.extract(&meta, &format!("sqlite/{file}"), &out.join(file));
        }
        let state = out.join("cursor.json");
        world.extract(&meta, "state/extract_cursor.json", &state);
        let subject = world.engine.manifest(&meta).unwrap().git.unwrap().head_subject.unwrap();
        let values = oracle::Values::read(&out, &subject, &std::fs::read(&state).unwrap()).unwrap();
        assert_eq!(values.torn(), None, "cut {cut}: {values:?}");
        let noise = oracle::noise_of_store(&out.join("long_term.sqlite")).unwrap();
        assert!(noise >= acknowledged, "cut {cut}: {noise} of {acknowledged} acknowledged writes");
        counters.insert(values.stores[0]);
        std::fs::remove_file(&meta.bundle_path).unwrap();
        std::fs::remove_file(meta.bundle_path.with_extension("").with_extension("manifest.json"))
            .unwrap();
    }
    writers.stop().unwrap();
    assert!(counters.len() > 1, "the writers never wrote between two cuts");
}

#[test]
fn cuts_are_whole_with_a_write_ahead_log() {
    cuts_are_whole(Journal::Wal);
}

#[test]
fn cuts_are_whole_with_a_rollback_journal() {
    cuts_are_whole(Journal::Delete);
}

/// Would catch: a capture that checkpoints the agent's log, or leaves files beside its databases.
#[test]
fn a_snapshot_leaves_the_agent_as_it_was() {
    let world = World::tiny();
    let idle = std::fs::read_dir(world.agent.sqlite_dir()).unwrap().count();
    world.snapshot();
    assert_eq!(std::fs::read_dir(world.agent.sqlite_dir()).unwrap().count(), idle);

    let agent = world.agent.connect("long_term").unwrap();
    agent.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    agent.execute_batch("CREATE TABLE in_the_log(x)").unwrap();
    let wal = world.agent.sqlite_dir().join("long_term.sqlite-wal");
    let before = std::fs::metadata(&wal).unwrap().len();
    assert!(before > 0);
    world.snapshot();
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), before);
}
