//! The worker: plans, checks and deletes, agent by agent, now and then.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use snapshot_core::{
    AgentId, Clock, Control, ErrorKind, PortError, RetentionTickReport, Tenant, error_chain,
};

use crate::keeper::{Keeper, Survey};
use crate::plan::{Health, Plan, plan};
use crate::policy::Policy;

/// The time between two runs, as in 0.1.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Longest wait before the first run: a daemon that is restarted more often than it runs must still
/// come to run.
const FIRST: Duration = Duration::from_secs(60);
/// How often a worker that waits looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(200);

/// The policy of an agent.
pub type Policies = dyn Fn(&Tenant, &AgentId) -> Policy + Send + Sync;

/// What a worker goes by.
#[derive(Clone)]
pub struct RetentionConfig {
    /// The policy of each agent.
    pub policies: Arc<Policies>,
    /// The time between two runs.
    pub interval: Duration,
}

/// Keeps the right snapshots of all agents.
pub struct RetentionWorker {
    keeper: Arc<dyn Keeper>,
    config: RetentionConfig,
    clock: Arc<dyn Clock>,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { policies: Arc::new(|_, _| Policy::default()), interval: INTERVAL }
    }
}

impl RetentionWorker {
    /// A worker over these snapshots.
    #[must_use]
    pub fn new(keeper: Arc<dyn Keeper>, config: RetentionConfig, clock: Arc<dyn Clock>) -> Self {
        Self { keeper, config, clock }
    }

    /// Goes through all agents once, one at a time. A failure is a line of the report and does not
    /// stop the rest; an agent that somebody works on is left for the next time.
    #[must_use]
    pub fn tick(&self, control: &Control) -> RetentionTickReport {
        let mut report = RetentionTickReport::default();
        match self.keeper.agents() {
            Err(e) => report.failed(error_chain(&e)),
            Ok(agents) => {
                for (tenant, agent) in agents {
                    if control.check().is_err() {
                        break;
                    }
                    self.visit(&tenant, &agent, control, &mut report);
                }
            }
        }
        self.finish(&report);
        report
    }

    /// Tells that a run is over, for those who plan and execute agent by agent themselves.
    pub fn finish(&self, report: &RetentionTickReport) {
        self.keeper.finished(report);
    }

    /// What is to become of one agent's snapshots. Deletes nothing, but may read bundles, to find one
    /// that is good.
    ///
    /// # Errors
    /// If the snapshots cannot be listed, or it is cancelled.
    pub fn plan(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        control: &Control,
    ) -> Result<Plan, PortError> {
        let Survey { mut candidates, hold } = self.keeper.survey(tenant, agent)?;
        let policy = (self.config.policies)(tenant, agent);
        let now_ms = self.clock.now_ms();
        let mut next = plan(&candidates, &policy, hold.as_deref(), now_ms);
        while let Some(&id) = next.needs_check.first() {
            let health = match self.keeper.check(tenant, agent, id, control) {
                // One that cannot be read is not the one to rely on; others may be.
                Err(e) if e.kind != ErrorKind::Interrupted => Health::Bad { why: error_chain(&e) },
                checked => checked?,
            };
            let checked = candidates.iter_mut().filter(|c| c.id == id);
            checked.for_each(|candidate| candidate.health = health.clone());
            next = plan(&candidates, &policy, hold.as_deref(), now_ms);
        }
        Ok(next)
    }

    /// Deletes what the plan drops, oldest first; `deleted` counts. What somebody else deleted since is passed over.
    ///
    /// # Errors
    /// The first failure; the next run goes on.
    pub fn execute(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        plan: &Plan,
        deleted: &mut u64,
        control: &Control,
    ) -> Result<(), PortError> {
        for entry in plan.dropped().rev() {
            match self.keeper.delete(tenant, agent, entry.id, control) {
                Err(gone) if gone.kind == ErrorKind::UnknownSnapshot => {}
                done => {
                    done?;
                    *deleted += 1;
                }
            }
        }
        Ok(())
    }

    /// Runs a tick within a minute, or the interval where that is shorter, and then one each interval,
    /// give or take a tenth, so that many processes do not all work at once; until `cancel` is
    /// cancelled.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn spawn(self, cancel: Control) -> std::io::Result<JoinHandle<()>> {
        let interval = self.config.interval;
        thread::Builder::new().name("retention".to_owned()).spawn(move || {
            let mut pause = first_pause(interval, random());
            while rest(pause, &cancel) {
                let report = self.tick(&cancel);
                tracing::info!(?report, "retention");
                pause = next_pause(interval, random());
            }
        })
    }

    fn visit(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        control: &Control,
        report: &mut RetentionTickReport,
    ) {
        report.agents_visited += 1;
        let done = self.keeper.turn(tenant, agent, &mut || {
            report.orphan_staging_dirs_removed += self.keeper.sweep(tenant, agent)?;
            let plan = self.plan(tenant, agent, control)?;
            self.execute(tenant, agent, &plan, &mut report.bundles_deleted, control)
        });
        match done {
            Ok(()) => {}
            Err(e) if matches!(e.kind, ErrorKind::Concurrent | ErrorKind::Interrupted) => {
                tracing::debug!(%tenant, %agent, error = %error_chain(&e), "left for the next time");
            }
            Err(e) => report.failed(format!("{tenant}/{agent}: {}", error_chain(&e))),
        }
    }
}

/// The time before the first run; `share` is from 0 to 1.
fn first_pause(interval: Duration, share: f64) -> Duration {
    interval.min(FIRST).mul_f64(share)
}

/// The time between two runs; `share` is from 0 to 1.
fn next_pause(interval: Duration, share: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * share)
}

/// Waits; false where it is to stop.
fn rest(pause: Duration, cancel: &Control) -> bool {
    let until = Instant::now() + pause;
    loop {
        if cancel.check().is_err() {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(GLANCE));
    }
}

/// A number from 0 to 1 that differs from process to process and call to call.
fn random() -> f64 {
    f64::from(u16::try_from(RandomState::new().hash_one(0) >> 48).unwrap_or_default())
        / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a first run that comes only after a whole interval, which a daemon that is
    /// restarted each day may never reach; or processes that all run at once.
    #[test]
    fn the_first_run_comes_within_a_minute_and_the_next_about_an_interval_later() {
        let (day, second) = (Duration::from_secs(86_400), Duration::from_secs(1));
        assert_eq!(first_pause(day, 1.0), Duration::from_secs(60));
        assert_eq!(first_pause(day, 0.5), Duration::from_secs(30));
        assert_eq!(first_pause(second, 1.0), second);
        assert_eq!(first_pause(day, 0.0), Duration::ZERO);
        assert_eq!(next_pause(second, 0.0), Duration::from_millis(900));
        assert_eq!(next_pause(second, 0.5), second);
    }
}
