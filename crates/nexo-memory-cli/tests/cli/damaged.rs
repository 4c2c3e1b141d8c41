//! Some of the damaged bundles of `fixtures/damaged`, as whoever is handed one meets them; the engine's tests
//! have all of them.

use std::fs;
use std::path::Path;

use super::{Home, chmod};

/// What all of them hold at `memory_files/large`, unless just that is damaged.
fn large() -> String {
    (0..100).map(|line| format!("{line}: what snapshot 1 knows\n")).collect()
}

/// Would catch: an exit code that is not the one of the damage's class, a damaged bundle that is taken in, and
/// a wrong byte on stdout before the program stops.
#[test]
fn each_kind_of_damage_exits_as_its_header_says() {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures"));
    let home = Home::new();
    home.write("key", &fs::read_to_string(fixtures.join("sealed/identity.txt")).unwrap());
    chmod(&home.path("key"), 0o600);
    let (mut seen, mut whole) = (0, 0);
    let names = fs::read_dir(fixtures.join("damaged")).unwrap().map(|entry| entry.unwrap().path());
    let mut bundles: Vec<_> = names.map(|path| path.to_str().unwrap().to_owned()).collect();
    bundles.retain(|name| name.contains(".tar.zst"));
    bundles.sort();
    for bundle in bundles.iter().step_by(5) {
        let (stem, form) = bundle.split_once(".tar.zst").unwrap();
        let text = fs::read_to_string(format!("{stem}.txt")).unwrap();
        let code = text.split_once("(exit ").and_then(|(_, rest)| rest.split_once(')')).unwrap().0;
        let key: &[&str] = if form.is_empty() { &[] } else { &["--decrypt-identity", "key"] };
        let run = |args: &[&str]| home.run(&[args, key].concat());
        for verb in ["verify", "import"] {
            let said = run(&[verb, bundle]);
            assert_eq!(said.code.to_string(), code, "{verb} {bundle}: {said:?}");
        }
        let said = run(&["cat", bundle, "memory_files/large"]);
        match said.code {
            0 => assert_eq!(said.out, large(), "{bundle}"),
            _ => assert_eq!(said.out, "", "{bundle}"),
        }
        (seen, whole) = (seen + 1, whole + usize::from(said.code == 0));
    }
    let list = home.run(&["list"]);
    assert!(list.out.contains("no snapshots"), "{list:?}");
    assert!(seen > 12 && whole < seen / 2, "{whole} of {seen} are read");
}
