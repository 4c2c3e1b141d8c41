//! Secrets in git: files of every commit, names, messages, people, notes, the stash.

use std::io::Write as _;

use super::{Canary, Place, Planter, encode, files};
use crate::error::KitError;
use crate::git::Git;
use crate::seed::SEEDED_AT_S;

/// Who commits.
const ANA: &str = "Ana <ana@example.org>";

/// A file that stashes change.
const DRAFT: &str = "planted/draft.md";

/// A `git fast-import` stream in the making.
struct Stream(Vec<u8>);

pub(super) fn plant(planter: &mut Planter<'_>) -> Result<(), KitError> {
    let git = planter.agent.git();
    let stream = commits(planter).map_err(KitError::io("write the history of", git.dir()))?;
    git.feed(&["fast-import", "--quiet"], &stream)?;
    git.run(&["reset", "--quiet", "--hard", "main"])?;
    notes(planter, &git)?;
    stash(planter, &git)?;
    headers(planter, &git)?;
    match planter.at(Place::GitBranchName).next() {
        Some(canary) => {
            let head = format!("refs/heads/of/{}", canary.value);
            git.run(&["symbolic-ref", "HEAD", &head]).map(drop)
        }
        None => Ok(()),
    }
}

/// Everything that `main` and branches off it hold; the last commit of `main` holds no secret itself.
fn commits(planter: &mut Planter<'_>) -> std::io::Result<Vec<u8>> {
    let mut stream = Stream(Vec::new());
    stream.commit("main", "refs/heads/main^0", ANA, "keys for the move")?;
    stream.file(DRAFT, "a draft\n")?;
    for canary in planter.at(Place::GitHead) {
        stream.file(&format!("planted/head/{}.md", canary.id), planter.sentence(canary))?;
    }
    for canary in planter.at(Place::GitEncoded) {
        stream.file(&format!("planted/head/{}.txt", canary.id), encoded(canary))?;
    }
    for canary in planter.at(Place::GitHistory) {
        stream.file(&format!("planted/gone/{}.md", canary.id), planter.sentence(canary))?;
    }
    for canary in planter.at(Place::GitPath) {
        stream.file(&format!("planted/gone/{}/a.md", canary.value), planter.prose(200))?;
    }
    for canary in planter.at(Place::GitMessage) {
        stream.commit("main", "", ANA, &planter.sentence(canary))?;
    }
    for canary in planter.at(Place::GitMail) {
        stream.commit("main", "", &format!("Ana <ana+{}@example.org>", canary.value), "by mail")?;
    }
    stream.commit("main", "", ANA, "tidy")?;
    writeln!(stream.0, "D planted/gone")?;
    for canary in planter.at(Place::GitBranch) {
        let branch = format!("side/{}", canary.id);
        stream.commit(&branch, "refs/heads/main", ANA, "beside")?;
        stream.file("planted/side.md", planter.sentence(canary))?;
    }
    names(planter, &mut stream)?;
    Ok(stream.0)
}

fn names(planter: &mut Planter<'_>, stream: &mut Stream) -> std::io::Result<()> {
    for canary in planter.at(Place::GitTagName) {
        write!(stream.0, "reset refs/tags/{}\nfrom refs/heads/main\n\n", canary.value)?;
    }
    for canary in planter.at(Place::GitBranchName) {
        write!(stream.0, "reset refs/heads/of/{}\nfrom refs/heads/main\n\n", canary.value)?;
    }
    for canary in planter.at(Place::GitTagMessage) {
        write!(
            stream.0,
            "tag told-{}\nfrom refs/heads/main\ntagger {ANA} {SEEDED_AT_S} +0000\n",
            canary.id
        )?;
        stream.data(planter.sentence(canary))?;
    }
    for canary in planter.at(Place::GitTagger) {
        let (id, value) = (canary.id, &canary.value);
        write!(
            stream.0,
            "tag by-{id}\nfrom refs/heads/main\n\
             tagger Ana <ana+{value}@example.org> {SEEDED_AT_S} +0000\n"
        )?;
        stream.data("by mail\n")?;
    }
    Ok(())
}

fn encoded(canary: &Canary) -> Vec<u8> {
    match canary.turn() % 2 {
        0 => encode::utf16(&format!("\u{feff}{}\n", canary.text), false),
        _ => files::base64(canary).into_bytes(),
    }
}

impl Stream {
    fn commit(&mut self, branch: &str, from: &str, by: &str, message: &str) -> std::io::Result<()> {
        write!(
            self.0,
            "commit refs/heads/{branch}\nauthor {by} {SEEDED_AT_S} +0000\n\
             committer {ANA} {SEEDED_AT_S} +0000\n"
        )?;
        self.data(message)?;
        // Without one it follows what the stream put on the branch before.
        match from {
            "" => Ok(()),
            from => writeln!(self.0, "from {from}"),
        }
    }

    fn file(&mut self, path: &str, content: impl AsRef<[u8]>) -> std::io::Result<()> {
        writeln!(self.0, "M 100644 inline {path}")?;
        self.data(content)
    }

    fn data(&mut self, content: impl AsRef<[u8]>) -> std::io::Result<()> {
        let content = content.as_ref();
        writeln!(self.0, "data {}", content.len())?;
        self.0.extend_from_slice(content);
        writeln!(self.0)
    }
}

fn notes(planter: &mut Planter<'_>, git: &Git) -> Result<(), KitError> {
    let count = planter.at(Place::GitNote).count().to_string();
    let commits = git.run(&["rev-list", "--max-count", &count, "main"])?;
    for (canary, commit) in planter.at(Place::GitNote).zip(commits.lines()) {
        git.feed(&["notes", "add", "--file=-", commit], planter.sentence(canary).as_bytes())?;
    }
    Ok(())
}

fn stash(planter: &mut Planter<'_>, git: &Git) -> Result<(), KitError> {
    let mut lines = |place| -> String {
        let canaries: Vec<_> = planter.at(place).collect();
        canaries.into_iter().map(|canary| planter.sentence(canary)).collect()
    };
    let (changed, staged, loose) =
        (lines(Place::GitStash), lines(Place::GitStashIndex), lines(Place::GitStashUntracked));
    let push = |message: &str, path: &str| {
        git.run(&["stash", "push", "--quiet", "--include-untracked", "-m", message, "--", path])
    };
    planter.write(DRAFT, changed)?;
    push("half done", DRAFT)?;
    planter.write(DRAFT, staged)?;
    git.run(&["add", DRAFT])?;
    planter.write(DRAFT, "on second thought\n")?;
    push("half staged", DRAFT)?;
    planter.write("planted/loose.md", loose)?;
    push("loose", "planted/loose.md")?;
    for canary in planter.at(Place::GitStashMessage) {
        let draft = planter.prose(100);
        planter.write(DRAFT, draft)?;
        push(&format!("with {}", canary.value), DRAFT)?;
    }
    Ok(())
}

/// Commits with a header that git passes on and never shows.
fn headers(planter: &Planter<'_>, git: &Git) -> Result<(), KitError> {
    let (tree, mut parent) =
        (git.run(&["rev-parse", "main^{tree}"])?, git.run(&["rev-parse", "main"])?);
    for canary in planter.at(Place::GitHeader) {
        let commit = format!(
            "tree {tree}\nparent {parent}\nauthor {ANA} {SEEDED_AT_S} +0000\n\
             committer {ANA} {SEEDED_AT_S} +0000\nx-deploy-key {}\n\nby a tool\n",
            canary.value
        );
        parent = git.feed(&["hash-object", "-t", "commit", "-w", "--stdin"], commit.as_bytes())?;
    }
    git.run(&["update-ref", "refs/heads/tools", &parent])?;
    Ok(())
}
