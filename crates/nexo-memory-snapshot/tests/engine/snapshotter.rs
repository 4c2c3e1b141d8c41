//! The async edge.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::LocalFsSnapshotter;
use nexo_memory_snapshot::request::{ExportForm, ExportRequest};
use nexo_memory_snapshot::snapshotter::MemorySnapshotter;

use crate::support::{Calls, Home, Pauses, ana, named, request};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[test]
fn a_host_works_through_the_trait_alone() {
    let home = Home::new();
    let snapshotter: Arc<dyn MemorySnapshotter> =
        Arc::new(home.builder().build_snapshotter().unwrap());
    runtime().block_on(async {
        let first = snapshotter.snapshot(request()).await.unwrap();
        let second = snapshotter.snapshot(request()).await.unwrap();
        let (tenant, agent) = (Tenant::default(), Some(ana()));
        let listing = snapshotter.list(tenant.clone(), agent.clone()).await.unwrap();
        assert_eq!(listing.snapshots.len(), 2);
        let latest = named("latest");
        let report = snapshotter.verify(tenant.clone(), agent.clone(), latest.clone()).await;
        assert!(report.unwrap().is_good());
        let to = home.path().join("out");
        let req = ExportRequest {
            agent_id: ana(),
            tenant: tenant.clone(),
            from: latest.clone(),
            to: to.clone(),
            form: ExportForm::AsIs,
            redact: None,
        };
        assert!(snapshotter.export(req).await.unwrap()[0].starts_with(to));
        let deleted = snapshotter.delete(tenant.clone(), agent.clone(), latest).await.unwrap();
        assert_eq!(deleted.id, second.id);
        assert_eq!(snapshotter.list(tenant, None).await.unwrap().snapshots[0].id, first.id);
    });
}

#[test]
fn dropping_the_future_cancels_and_leaves_nothing() {
    let home = Home::new();
    let (paused, is_paused) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let (paused, may_go_on) = (Mutex::new(paused), Mutex::new(may_go_on));
    let calls = Calls::default();
    let pause = move || {
        paused.lock().unwrap().send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        Ok(())
    };
    let pauses = Pauses { calls: calls.clone(), pause };
    let builder = home.builder().quiesce(Arc::new(pauses), Duration::from_secs(5));
    let snapshotter: LocalFsSnapshotter = builder.build_snapshotter().unwrap();

    let runtime = runtime();
    let entered = runtime.enter();
    {
        let mut taking = pin!(snapshotter.snapshot(request()));
        let polled = taking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        is_paused.recv().unwrap();
    }
    // The future is gone; its work is in the middle of things, and now finds out.
    go_on.send(()).unwrap();
    drop(entered);
    // Waits for the blocking threads.
    drop(runtime);
    assert_eq!(*calls.lock().unwrap(), ["pause", "resume"]);
    assert_eq!(home.files(), [""; 0]);
}
