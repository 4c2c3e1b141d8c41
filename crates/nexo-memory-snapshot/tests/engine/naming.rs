//! Every way to name a snapshot.

use nexo_memory_snapshot::error::{ErrorKind, Match, SnapshotError};
use nexo_memory_snapshot::id::{AgentId, Tenant};
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::request::{SnapshotRef, SnapshotRequest};

use crate::support::{Home, ana, named, request};

#[test]
fn every_name_finds_its_snapshot() {
    let home = Home::new();
    let engine = home.engine();
    home.next_ids(&[[0x11, 1], [0x22, 2], [0x22, 3]]);
    let mut req = request();
    req.label = Some("x".into());
    let first = engine.snapshot(&req, &Control::default()).unwrap();
    let second = engine.snapshot(&req, &Control::default()).unwrap();
    let third = home.take();
    let find = |text: &str, agent: Option<&AgentId>| {
        engine.resolve(&Tenant::default(), agent, &named(text)).map(|meta| meta.id)
    };
    for agent in [None, Some(&ana())] {
        assert_eq!(find("latest", agent).unwrap(), third.id);
        assert_eq!(find("latest~2", agent).unwrap(), first.id);
        assert_eq!(find("@x", agent).unwrap(), second.id, "the newest of a label");
        assert_eq!(find(&first.id.to_string(), agent).unwrap(), first.id);
        assert_eq!(find("1101", agent).unwrap(), first.id);
        assert_eq!(find("220303", agent).unwrap(), third.id);
        assert_eq!(find(third.bundle_path.to_str().unwrap(), agent).unwrap(), third.id);
    }
    for absent in
        ["latest~3", "@y", "9999", "99999999-0000-4000-8000-000000000000", "/no/x.tar.zst"]
    {
        let error = find(absent, Some(&ana())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownSnapshot, "{absent}");
        assert!(error.to_string().contains(home.vault().to_str().unwrap()), "{error}");
    }
}

#[test]
fn an_ambiguous_prefix_names_its_candidates() {
    let home = Home::new();
    home.next_ids(&[[0x22, 2], [0x22, 3]]);
    let (first, second) = (home.take(), home.take());
    let both = SnapshotRef::Prefix("22".into());
    let resolve = || home.engine().resolve(&Tenant::default(), None, &both).unwrap_err();
    let found = |error: SnapshotError| match error {
        SnapshotError::Ambiguous { candidates, root, .. } => {
            assert_eq!(root, home.vault());
            let told = |c: Match| (c.id, c.agent, c.created_at_ms.is_some());
            candidates.into_iter().map(told).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let whose = Some(ana());
    assert_eq!(
        found(resolve()),
        [(second.id, whose.clone(), true), (first.id, whose.clone(), true)]
    );
    // One whose summary cannot be read may be meant too.
    std::fs::write(second.bundle_path.with_file_name(format!("{}.manifest.json", second.id)), "{")
        .unwrap();
    assert_eq!(found(resolve()), [(first.id, whose.clone(), true), (second.id, whose, false)]);
}

#[test]
fn a_damaged_snapshot_is_never_passed_over_for_another() {
    let home = Home::new();
    home.next_ids(&[[0x22, 2], [0x22, 3]]);
    let (first, second) = (home.take(), home.take());
    std::fs::write(&second.bundle_path, b"cut short").unwrap();
    let find = |r: SnapshotRef| home.engine().resolve(&Tenant::default(), Some(&ana()), &r);
    // Only one good one begins so, but the other may have been meant.
    let vague = find(SnapshotRef::Prefix("22".into())).unwrap_err();
    assert!(matches!(vague, SnapshotError::Ambiguous { .. }));
    let error = find(SnapshotRef::Id(second.id)).unwrap_err();
    assert!(matches!(error, SnapshotError::Unusable { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert_eq!(find(SnapshotRef::Id(first.id)).unwrap().id, first.id);
}

#[test]
fn the_latest_of_several_agents_is_nobodys() {
    let home = Home::new();
    home.add_agent("bob");
    let mine = home.take();
    let bob = SnapshotRequest::cli(AgentId::from_static("bob"), Tenant::default());
    let theirs = home.engine().snapshot(&bob, &Control::default()).unwrap();
    let find = |text: &str| home.engine().resolve(&Tenant::default(), None, &named(text));
    let error = find("latest").unwrap_err();
    assert!(matches!(error, SnapshotError::WhichAgent { .. }));
    assert!(error.to_string().contains("ana, bob"), "{error}");
    // An id tells the agent by itself.
    assert_eq!(find(&mine.id.to_string()).unwrap().agent_id, ana());
    assert_eq!(find(&theirs.id.to_string()).unwrap().agent_id.as_str(), "bob");
    let all = home.engine().list(&Tenant::default(), None).unwrap().snapshots;
    assert_eq!(all.iter().map(|m| m.id).collect::<Vec<_>>(), [theirs.id, mine.id]);
    let elsewhere = home.engine().list(&Tenant::from_static("t2"), None).unwrap();
    assert_eq!(elsewhere.snapshots, []);
}

#[test]
fn a_path_outside_the_vault_needs_no_summary_and_must_be_the_named_agents() {
    let home = Home::new();
    let engine = home.engine();
    let meta = home.take();
    let copy = home.path().join("copy.tar.zst");
    std::fs::copy(&meta.bundle_path, &copy).unwrap();
    let by_path = SnapshotRef::Path(copy.clone());
    let found = engine.resolve(&Tenant::default(), Some(&ana()), &by_path).unwrap();
    assert_eq!((found.id, found.bundle_sha256), (meta.id, meta.bundle_sha256));
    assert_eq!(found.bundle_path, copy.canonicalize().unwrap());
    assert_eq!(engine.manifest(&found).unwrap(), engine.manifest(&meta).unwrap());
    for (tenant, agent) in [("default", "bob"), ("t2", "ana")] {
        let (tenant, agent) = (tenant.parse().unwrap(), agent.parse().unwrap());
        let error = engine.resolve(&tenant, Some(&agent), &by_path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    // Through a link, a path into the vault is still the vault's snapshot.
    let link = home.path().join("link");
    std::os::unix::fs::symlink(home.vault(), &link).unwrap();
    let tail = meta.bundle_path.strip_prefix(home.vault()).unwrap();
    let found = engine.resolve(&Tenant::default(), None, &SnapshotRef::Path(link.join(tail)));
    assert_eq!(found.unwrap().bundle_path, meta.bundle_path);
    // One in the vault that lost its summary can still be looked at by its path.
    let name = format!("{}.manifest.json", meta.id);
    std::fs::remove_file(meta.bundle_path.with_file_name(name)).unwrap();
    let orphan = SnapshotRef::Path(meta.bundle_path.clone());
    let orphan = engine.resolve(&Tenant::default(), Some(&ana()), &orphan).unwrap();
    assert_eq!(engine.manifest(&orphan).unwrap().snapshot_id, meta.id);
    std::fs::remove_file(&meta.bundle_path).unwrap();
    assert_eq!(engine.manifest(&orphan).unwrap_err().kind(), ErrorKind::UnknownSnapshot);
}
