//! Debian's programs that tests need: `age` and `minisign`, against which encryption and signatures are tested, `strace`,
//! and what makes a file system and cuts its power.

use std::env;
use std::process::Command;

use nix::unistd::geteuid;

use crate::tools::{Outcome, find, run};

/// What the tests call, and the Debian package that brings it.
const PEERS: [(&str, &str); 6] = [
    ("age", "age"),
    ("age-keygen", "age"),
    ("minisign", "minisign"),
    ("strace", "strace"),
    ("mkfs.ext4", "e2fsprogs"),
    ("xfs_io", "xfsprogs"),
];

/// Makes sure that they are there: installs them where we may, else says aloud what is not tested, which
/// in CI is a failure.
pub(crate) fn ensure() -> Outcome {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!("sudo apt-get install {}", packages.join(" "));
    let installs = geteuid().is_root() && find("apt-get").is_some();
    let why = match installs.then(|| install(&packages)) {
        Some(Ok(())) => return Ok(()),
        Some(Err(why)) => why,
        None => "we are not root, or there is no apt-get".to_owned(),
    };
    if env::var_os("CI").is_some() {
        return Err(format!("{} must be there in CI: {why}; {by_hand}", packages.join(" and ")));
    }
    println!("NOT RUN: the tests with {} ({why}): {by_hand}", packages.join(" and "));
    Ok(())
}

/// The packages of the programs that are not there.
fn missing() -> Vec<&'static str> {
    let mut packages: Vec<_> = PEERS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}

fn install(packages: &[&str]) -> Outcome {
    println!("installing {}", packages.join(" "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        run(command.args(["-qq", "-y"]).args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = [&["install", "--no-install-recommends"], packages].concat();
    // The list of packages may be old, or not be there.
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))?;
    match missing().is_empty() {
        true => Ok(()),
        false => Err("they were installed and are not on the PATH".to_owned()),
    }
}
