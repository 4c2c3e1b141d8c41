//! Writes the seeds that `fixtures/fuzz` lacks. Those that are there stay as they are: what fuzzing found lies
//! among them.
#![expect(clippy::print_stdout, reason = "this program speaks to people")]

use std::io::{self, Write as _};
use std::path::Path;

use snapshot_fs::DurableFs;
use snapshot_fuzz::seeds;

fn main() -> io::Result<()> {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures"));
    for (target, name, bytes) in seeds(fixtures) {
        let dir = fixtures.join("fuzz").join(target);
        if dir.join(&name).exists() {
            continue;
        }
        let dir = DurableFs::default().ensure_dir(&dir, 0o755).map_err(io::Error::other)?;
        let mut file = dir.create_new(&name, 0o644).map_err(io::Error::other)?;
        file.write_all(&bytes)?;
        println!("{target}/{name}: {} bytes", bytes.len());
    }
    Ok(())
}
