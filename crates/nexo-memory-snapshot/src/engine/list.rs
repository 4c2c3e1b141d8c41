//! Listing snapshots, and finding the one that a person means.

use std::collections::BTreeSet;
use std::path::Path;

use snapshot_core::{
    AgentId, ErrorKind, Manifest, MemoryLayout, SnapshotId, SnapshotMeta, SnapshotRef, Tenant,
    error_chain,
};
use snapshot_vault::{ListProblem, Listing, ProblemKind};

use super::Engine;
use crate::error::{Match, SnapshotError};

impl Engine {
    /// The snapshots of an agent, or of all agents of the tenant, newest first, and what is wrong
    /// beside them: of all, that is an agent's folder that cannot be read, too. No bundle is opened.
    ///
    /// # Errors
    /// If the folder of the vault, or of the one agent, cannot be read.
    pub fn list(&self, tenant: &Tenant, agent: Option<&AgentId>) -> Result<Listing, SnapshotError> {
        let vault = &self.parts.vault;
        if let Some(agent) = agent {
            return Ok(vault.agent(tenant, agent).list()?);
        }
        let mut all = Listing::default();
        for (_, agent) in vault.agents()?.into_iter().filter(|(t, _)| t == tenant) {
            let agent = vault.agent(tenant, &agent);
            match agent.list() {
                Ok(listing) => {
                    all.snapshots.extend(listing.snapshots);
                    all.problems.extend(listing.problems);
                }
                // One agent's folder does not hide the others.
                Err(e) => all.problems.push(ListProblem {
                    path: agent.snapshots_path(),
                    id: None,
                    kind: ProblemKind::Unreadable,
                    why: error_chain(&e),
                }),
            }
        }
        // Of a snapshot and its redacted copy, which are of one instant, the whole one is the later.
        all.snapshots
            .sort_by_key(|m| std::cmp::Reverse((m.created_at_ms, !m.redactions_applied, m.id)));
        Ok(all)
    }

    /// The snapshot that `r` names. Without an agent all of the tenant are searched; a path is
    /// taken as it is, and where an agent is named the bundle must be of that agent and tenant.
    ///
    /// # Errors
    /// `UnknownSnapshot` for no or several snapshots, `Usage` where an agent must be named,
    /// `Integrity` where what is there is no usable snapshot, `Refused` for a bundle of another
    /// agent.
    pub fn resolve(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
        r: &SnapshotRef,
    ) -> Result<SnapshotMeta, SnapshotError> {
        if let SnapshotRef::Path(path) = r {
            let expect = |meta| match agent {
                Some(agent) => of_agent(meta, tenant, agent),
                None => Ok(meta),
            };
            return expect(self.meta_of_path(path, expect)?);
        }
        let listing = self.list(tenant, agent)?;
        let found = match r {
            SnapshotRef::Path(_) => None,
            SnapshotRef::Latest(n) => {
                self.check_one_agent(&listing, r)?;
                listing.snapshots.into_iter().nth(*n)
            }
            SnapshotRef::Label(label) => {
                self.check_one_agent(&listing, r)?;
                self.labelled(listing.snapshots, label)?
            }
            SnapshotRef::Id(id) => self.by_prefix(listing, &id.to_string())?,
            SnapshotRef::Prefix(prefix) => self.by_prefix(listing, prefix)?,
        };
        found.ok_or_else(|| self.unknown(tenant, agent, r))
    }

    /// The newest snapshot with this label. That of an encrypted one is inside, for its readers.
    fn labelled(
        &self,
        snapshots: Vec<SnapshotMeta>,
        label: &str,
    ) -> Result<Option<SnapshotMeta>, SnapshotError> {
        let mut sealed = 0;
        for meta in snapshots {
            let found = match &meta.label {
                Some(own) => own == label,
                None if !meta.encrypted => false,
                None => match self.open_quietly(&meta) {
                    Ok(bundle) => bundle.manifest().label.as_deref() == Some(label),
                    Err(e) => {
                        sealed += u64::from(e.kind() == ErrorKind::Encryption);
                        false
                    }
                },
            };
            if found {
                return Ok(Some(meta));
            }
        }
        match sealed {
            0 => Ok(None),
            _ => Err(SnapshotError::SealedLabels { label: label.to_owned(), sealed }),
        }
    }

    /// What a bundle holds, by its own manifest.
    ///
    /// # Errors
    /// If the bundle cannot be opened or its manifest is not that of the snapshot.
    pub fn manifest(&self, meta: &SnapshotMeta) -> Result<Manifest, SnapshotError> {
        Ok(self.open(meta, &snapshot_core::Control::default())?.bundle.into_manifest())
    }

    /// The newest and the labelled are meant within one agent.
    fn check_one_agent(&self, listing: &Listing, r: &SnapshotRef) -> Result<(), SnapshotError> {
        let agents: BTreeSet<_> = listing.snapshots.iter().map(|m| m.agent_id.clone()).collect();
        if agents.len() < 2 {
            return Ok(());
        }
        Err(SnapshotError::WhichAgent {
            wanted: r.to_string(),
            agents: agents.into_iter().collect(),
            root: self.root().to_owned(),
        })
    }

    /// The one snapshot whose id begins so. Files that are no usable snapshot count too: a name that
    /// may mean one of them must not silently mean another.
    fn by_prefix(
        &self,
        listing: Listing,
        prefix: &str,
    ) -> Result<Option<SnapshotMeta>, SnapshotError> {
        let matches = |id: &SnapshotId| id.to_string().starts_with(prefix);
        let mut found = listing.snapshots;
        found.retain(|m| matches(&m.id));
        let listed: BTreeSet<_> = found.iter().map(|m| m.id).collect();
        let mut unusable: Vec<ListProblem> = listing.problems;
        unusable.retain(|p| p.id.is_some_and(|id| matches(&id) && !listed.contains(&id)));
        let mut candidates: Vec<_> =
            found.iter().map(of_meta).chain(unusable.iter().filter_map(of_problem)).collect();
        candidates.dedup_by_key(|candidate| candidate.id);
        if candidates.len() > 1 {
            let (wanted, root) = (prefix.to_owned(), self.root().to_owned());
            return Err(SnapshotError::Ambiguous { wanted, candidates, root });
        }
        let Some(problem) = unusable.into_iter().next() else { return Ok(found.pop()) };
        if let Some(predecessor) = self.v1_of(&problem) {
            return Ok(Some(predecessor));
        }
        let ListProblem { path, id, kind, why } = problem;
        Err(match kind {
            ProblemKind::TooNew => SnapshotError::TooNew { path, why },
            _ => SnapshotError::Unusable { path, id, why },
        })
    }

    /// The bundles of 0.1.x among the problems of a listing, newest first: what their own manifests say, which
    /// nothing vouches for, or, of those that nothing here opens, their names. They are no snapshots before they
    /// are imported.
    #[must_use]
    pub fn predecessors(&self, listing: &Listing) -> Vec<SnapshotMeta> {
        let mut found: Vec<_> = listing.problems.iter().filter_map(|p| self.v1_of(p)).collect();
        found.sort_by_key(|meta| std::cmp::Reverse((meta.created_at_ms, meta.id)));
        found
    }

    /// The bundle of 0.1.x that a problem is.
    fn v1_of(&self, problem: &ListProblem) -> Option<SnapshotMeta> {
        let by_its_sum = match problem.kind {
            ProblemKind::V1 => true,
            ProblemKind::Orphan => false,
            _ => return None,
        };
        self.v1_meta(&problem.path, problem.id?, by_its_sum).ok()?
    }

    /// That there is such an agent: something of it in the vault, or a memory where the host says. What is asked of
    /// a mistyped one must neither look well nor leave something behind.
    pub(super) fn must_know(&self, tenant: &Tenant, agent: &AgentId) -> Result<(), SnapshotError> {
        let known = self.known_agents()?;
        let has_memory = |layout: MemoryLayout| layout.paths().iter().any(|path| path.exists());
        if known.contains(&(tenant.clone(), agent.clone()))
            || self.layout(tenant, agent).is_ok_and(has_memory)
        {
            return Ok(());
        }
        let known = known.into_iter().filter(|(of, _)| of == tenant).map(|(_, agent)| agent);
        Err(SnapshotError::NoSuchAgent {
            tenant: tenant.clone(),
            agent: agent.clone(),
            known: known.collect(),
            root: self.root().to_owned(),
        })
    }

    fn unknown(&self, tenant: &Tenant, agent: Option<&AgentId>, r: &SnapshotRef) -> SnapshotError {
        let whose = match agent {
            Some(agent) => format!("agent {agent} of tenant {tenant}"),
            None => format!("any agent of tenant {tenant}"),
        };
        SnapshotError::UnknownSnapshot {
            wanted: r.to_string(),
            whose,
            root: self.root().to_owned(),
        }
    }
}

fn of_meta(meta: &SnapshotMeta) -> Match {
    Match {
        id: meta.id,
        agent: Some(meta.agent_id.clone()),
        created_at_ms: Some(meta.created_at_ms),
        label: meta.label.clone(),
    }
}

/// Of what cannot be read, its place says whose it is.
fn of_problem(problem: &ListProblem) -> Option<Match> {
    let folder = problem.path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let agent = folder.and_then(|name| name.parse().ok());
    Some(Match { id: problem.id?, agent, created_at_ms: None, label: None })
}

fn of_agent(
    meta: SnapshotMeta,
    tenant: &Tenant,
    agent: &AgentId,
) -> Result<SnapshotMeta, SnapshotError> {
    if meta.agent_id == *agent && meta.tenant == *tenant {
        return Ok(meta);
    }
    Err(SnapshotError::Foreign {
        found: format!("{}/{}", meta.tenant, meta.agent_id),
        expected: format!("{tenant}/{agent}"),
        path: meta.bundle_path,
    })
}
