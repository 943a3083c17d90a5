//! Replacing the containers of a service a few at a time, so that the others go
//! on serving meanwhile.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::recreate::Pair;
use super::{Apply, Made, lock, what};
use crate::engine::Container;
use crate::engine::wait::readable;
use crate::failpoint;
use crate::project::observe::Member;
use crate::project::plan::step::reasons;
use crate::project::plan::{OnFailure, Reason, Rolling, Target};
use crate::project::{names, wait};

/// How far a roll has come.
#[derive(Default)]
struct Rolled {
    /// Replaced, but not beyond return: kept for a rollback.
    pairs: Vec<Pair>,
    failed: usize,
    error: Option<anyhow::Error>,
}

impl Apply<'_> {
    /// Replaces containers batch by batch.
    pub(super) fn roll(
        &self,
        service: &str,
        old: &[(Member, Vec<Reason>)],
        rolling: &Rolling,
        made: &Mutex<Made>,
    ) -> Result<()> {
        let size = if rolling.parallelism == 0 { old.len() } else { rolling.parallelism };
        let state = Mutex::new(Rolled::default());
        for (index, batch) in old.chunks(size.max(1)).enumerate() {
            if index > 0 && self.interrupted_within(rolling.delay)? {
                self.keep_new(std::mem::take(&mut lock(&state).pairs), made)?;
                bail!("the update of service {service} was interrupted, the rest stays as it was");
            }
            failpoint::reach("batch");
            std::thread::scope(|scope| {
                for (member, why) in batch {
                    scope.spawn(|| self.roll_one(service, member, &reasons(why), rolling, &state, made));
                }
            });
            let mut state = lock(&state);
            if too_many(state.failed, old.len(), rolling.max_failure_ratio) && rolling.on_failure != OnFailure::Continue
            {
                let error = state.error.take();
                if rolling.on_failure == OnFailure::Rollback {
                    self.roll_back(&state.pairs);
                } else {
                    self.keep_new(std::mem::take(&mut state.pairs), made)?;
                }
                let rest = match rolling.on_failure {
                    OnFailure::Rollback => "it was rolled back",
                    _ => "the rest stays as it was",
                };
                let text = format!("the update of service {service} failed, {rest}");
                return Err(error.unwrap_or_else(|| anyhow::anyhow!("a container failed")).context(text));
            }
        }
        let mut state = state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.keep_new(std::mem::take(&mut state.pairs), made)?;
        match state.error {
            Some(error) if too_many(state.failed, old.len(), rolling.max_failure_ratio) => {
                Err(error.context(format!("{} containers of service {service} were not updated", state.failed)))
            }
            _ => Ok(()),
        }
    }

    fn roll_one(
        &self,
        service: &str,
        member: &Member,
        why: &str,
        rolling: &Rolling,
        state: &Mutex<Rolled>,
        made: &Mutex<Made>,
    ) {
        match self.switch(service, member, why, rolling) {
            Ok(pair) if rolling.on_failure == OnFailure::Rollback => lock(state).pairs.push(pair),
            Ok(pair) => {
                if let Err(error) = self.keep_new(vec![pair], made) {
                    let mut state = lock(state);
                    state.failed += 1;
                    state.error.get_or_insert(error);
                }
            }
            Err(error) => {
                let mut state = lock(state);
                state.failed += 1;
                state.error.get_or_insert(error);
            }
        }
    }

    /// The new container takes over from the old one, which stays, stopped.
    fn switch(&self, service: &str, member: &Member, why: &str, rolling: &Rolling) -> Result<Pair> {
        let model = self.service(service)?;
        let name = names::container(self.project, model, member.number);
        let target = Target { service: service.to_owned(), number: member.number, name };
        let text = what(&target.name);
        self.progress.working(&text, &format!("Updating ({why})"));
        let pair = self.tell_failure(&text, self.beside(&target, &member.container))?;
        let switched = match rolling.start_first {
            true => self
                .start_new(&pair)
                .and_then(|()| self.watch(&pair, rolling.monitor))
                .and_then(|()| self.stop_old(&pair)),
            false => self
                .stop_old(&pair)
                .and_then(|()| self.start_new(&pair))
                .and_then(|()| self.watch(&pair, rolling.monitor)),
        };
        if let Err(error) = self.tell_failure(&text, switched) {
            self.bring_back(&pair);
            return Err(error);
        }
        self.progress.done(&text, &format!("Updated ({why})"));
        Ok(pair)
    }

    /// A container that ends while it is watched has failed, unless it has done its work.
    fn watch(&self, pair: &Pair, monitor: Duration) -> Result<()> {
        let id = &pair.new.config.id;
        wait::all_up(self.engine, self.progress, std::slice::from_ref(&pair.new), None)?;
        let deadline = Instant::now() + monitor;
        match self.engine.wait(id, Some(deadline))? {
            None | Some(0) => Ok(()),
            Some(code) => {
                self.show_last_lines(&pair.new);
                bail!("container {} exited ({code})", pair.target.name);
            }
        }
    }

    /// The time between two batches, which a signal cuts short.
    fn interrupted_within(&self, delay: Duration) -> Result<bool> {
        readable(&[self.interrupt.fd()], Some(Instant::now() + delay))
    }

    fn keep_new(&self, pairs: Vec<Pair>, made: &Mutex<Made>) -> Result<()> {
        for pair in pairs {
            let container: Container = self.finish(&pair)?;
            self.replaced(made, &pair.target, container);
        }
        Ok(())
    }

    fn roll_back(&self, pairs: &[Pair]) {
        for pair in pairs.iter().rev() {
            let text = what(&pair.target.name);
            self.progress.working(&text, "Rolling back");
            self.bring_back(pair);
            self.progress.done(&text, "Rolled back");
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of containers")]
fn too_many(failed: usize, all: usize, ratio: f64) -> bool {
    failed > 0 && failed as f64 > ratio * all as f64
}
