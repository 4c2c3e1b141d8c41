//! The writer refuses what it cannot stand for, and ends cleanly whatever fails around it.

use std::io::{self, Read, Write};

use snapshot_bundle::{BundleError, BundleWriter};
use snapshot_core::{
    Artifact, ArtifactSink, BundlePath, Control, ErrorKind, PortError, Sha256Digest,
};

use crate::support::{Item, MIB, manifest, mixed, noise, options};

fn writer() -> BundleWriter<io::Sink> {
    BundleWriter::new(io::sink(), &options(2), Control::default()).unwrap()
}

fn cause(error: PortError) -> BundleError {
    *error.source.unwrap().downcast::<BundleError>().unwrap()
}

/// Catches a bundle whose entry is shorter or longer than its header says.
#[test]
fn content_of_another_length_than_declared_fails() {
    for (declared, given, is_more) in [(10, 9, false), (10, 11, true), (0, 1, true)] {
        for base in [0, MIB] {
            let item = Item::file("f", vec![1; base + given]);
            let mut spec = item.spec();
            spec.size_bytes = (base + declared) as u64;
            let content = vec![1; base + given];
            let error = writer().put_file(spec, &mut &content[..]).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Integrity);
            let error = cause(error);
            let BundleError::Length { more, .. } = error else { panic!("{error}") };
            assert_eq!(more, is_more);
        }
    }
}

/// Catches a source error taken for the end of the content, and a writer that goes on after it.
#[test]
fn a_source_that_fails_fails_the_bundle_for_good() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    let mut writer = writer();
    let item = Item::file("f", "abc");
    let error = writer.put_file(item.spec(), &mut Failing).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Io);
    let error = cause(error);
    assert!(matches!(error, BundleError::Content { .. }), "{error}");
    let again = cause(Item::file("g", "abc").put(&mut writer).unwrap_err());
    assert!(matches!(again, BundleError::AlreadyFailed), "{again}");
    assert!(matches!(writer.finish(&manifest(&[])), Err(BundleError::AlreadyFailed)));
}

/// Catches two entries of one name, of which an extraction keeps the later.
#[test]
fn a_path_is_written_once() {
    let mut writer = writer();
    Item::file("f", "a").put(&mut writer).unwrap();
    let error = cause(Item::Dir { name: b"f".to_vec() }.put(&mut writer).unwrap_err());
    assert!(matches!(error, BundleError::Artifact { .. }), "{error}");
}

/// Catches entries whose header would not be that of their kind.
#[test]
fn kinds_go_where_they_belong() {
    let dir = Artifact::dir(BundlePath::parse("memory_files/d").unwrap(), 0o700, 0);
    let mut spec = Item::file("f", "a").spec();
    spec.kind = dir.kind;
    assert!(writer().put_file(spec, &mut &b"a"[..]).is_err());
    let file = Item::file("f", "").spec().into_artifact(Sha256Digest::of(b""));
    assert!(writer().put_entry(&file).is_err());
    assert!(writer().put_entry(&Artifact { size_bytes: 1, ..dir }).is_err());
}

/// Catches a manifest that says something else than what lies before it.
#[test]
fn the_manifest_must_list_exactly_what_was_written() {
    let with = |change: fn(&mut Vec<Artifact>)| {
        let mut writer = writer();
        let mut artifacts: Vec<_> =
            mixed().iter().map(|item| item.put(&mut writer).unwrap()).collect();
        change(&mut artifacts);
        writer.finish(&manifest(&artifacts))
    };
    assert!(with(|_| ()).is_ok());
    type Change = fn(&mut Vec<Artifact>);
    let changes: [Change; 5] = [
        |artifacts| artifacts.swap(3, 4),
        |artifacts| drop(artifacts.pop()),
        |artifacts| artifacts[0].mode = Some(0o644),
        |artifacts| artifacts[0].sha256 = Sha256Digest::of(b"other"),
        |artifacts| artifacts.push(Item::file("x", "").spec().into_artifact(Sha256Digest::of(b""))),
    ];
    for (n, change) in changes.iter().enumerate() {
        let error = with(*change).map(|_| ()).unwrap_err();
        assert!(matches!(error, BundleError::ManifestMismatch { .. }), "change {n}: {error}");
    }
    let mut other_time = manifest(&[]);
    other_time.created_at_ms += 1;
    let error = writer().finish(&other_time).map(|_| ()).unwrap_err();
    assert!(matches!(error, BundleError::ManifestMismatch { .. }), "{error}");
}

/// Fails, or panics, once `left` bytes were written.
struct Full {
    left: usize,
    panics: bool,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            assert!(!self.panics, "as told");
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(self.left);
        self.left -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_mixed(out: Full, control: Control) -> Result<(), BundleError> {
    let mut writer = BundleWriter::new(out, &options(2), control)?;
    let mut artifacts = Vec::new();
    for item in mixed() {
        artifacts.push(item.put(&mut writer).map_err(cause)?);
    }
    writer.finish(&manifest(&artifacts)).map(|_| ())
}

/// Catches a full disk, at any byte, that hangs the writer or passes for success.
#[test]
fn an_output_that_fails_or_panics_at_any_point_ends_the_writer() {
    let size = crate::support::build(&mixed()).bytes().len();
    let whole = Full { left: size, panics: false };
    write_mixed(whole, Control::default()).unwrap();
    let last = (size - 1, false);
    let points = (0..20).flat_map(|n| [(size * n / 20, false), (size * n / 20, true)]);
    for (left, panics) in points.chain([last]) {
        let error = write_mixed(Full { left, panics }, Control::default()).unwrap_err();
        match (panics, error) {
            (false, BundleError::Write { source }) => {
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            }
            (true, BundleError::Panicked { .. }) => {}
            (_, other) => panic!("{left} bytes: {other}"),
        }
    }
}

/// Catches a writer that ignores its caller, or that answers with another error.
#[test]
fn a_cancelled_writer_is_interrupted() {
    let control = Control::default();
    control.cancel();
    let error = write_mixed(Full { left: usize::MAX, panics: false }, control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

/// Catches threads or a hang left behind by a writer that is given up.
#[test]
fn a_dropped_writer_ends() {
    let mut writer = writer();
    Item::file("f", noise(3 * MIB, 1)).put(&mut writer).unwrap();
    drop(writer);
}
