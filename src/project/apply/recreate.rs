//! Replacing one container: the new one is made under a temporary name, the old
//! one stopped, the new one started, and only then the old one goes. Whatever
//! fails before that brings the old one back.

use anyhow::{Context as _, Result};

use super::{Apply, what};
use crate::engine::Container;
use crate::engine::request::Join;
use crate::failpoint;
use crate::project::plan::Target;
use crate::project::{hooks, service};

/// A new container beside the old one, until one of them goes.
#[derive(Debug)]
pub(super) struct Pair {
    pub target: Target,
    pub old: Container,
    pub new: Container,
    /// The old one gave up its networks, for the new one has the same fixed address.
    gave_up: Option<Vec<Join>>,
}

impl Apply<'_> {
    /// Replaces a container.
    pub(super) fn recreate(&self, target: &Target, old: &Container, start: bool, why: &str) -> Result<Container> {
        let text = what(&target.name);
        self.progress.working(&text, &format!("Recreating ({why})"));
        let pair = self.tell_failure(&text, self.beside(target, old))?;
        let switched = self.stop_old(&pair).and_then(|()| match start {
            true => self.start_new(&pair),
            false => Ok(()),
        });
        if let Err(error) = self.tell_failure(&text, switched) {
            self.bring_back(&pair);
            return Err(error);
        }
        let container = self.tell_failure(&text, self.finish(&pair))?;
        self.progress.done(&text, &format!("Recreated ({why})"));
        if start {
            self.progress.done(&text, "Started");
        }
        Ok(container)
    }

    /// Makes the new container beside the old one.
    pub(super) fn beside(&self, target: &Target, old: &Container) -> Result<Pair> {
        let name = format!("{}_{}", umiak_base::id::short(&old.config.id), target.name);
        let gave_up = self.give_up_addresses(target, old)?;
        failpoint::reach("beside");
        match self.make(target, &name, Some(old)) {
            Ok(new) => Ok(Pair { target: target.clone(), old: old.clone(), new, gave_up }),
            Err(error) => {
                if let Some(joins) = gave_up {
                    self.restore(old, Some(&joins));
                }
                Err(error)
            }
        }
    }

    /// Two containers cannot have one fixed address, not even while one of them is stopped.
    fn give_up_addresses(&self, target: &Target, old: &Container) -> Result<Option<Vec<Join>>> {
        let attachments = old.config.network.attachments();
        if !attachments.iter().any(|attachment| attachment.static_address) {
            return Ok(None);
        }
        let wanted = service::joins(self.project, self.service(&target.service)?)?;
        let clash = |join: &Join| {
            attachments.iter().any(|attachment| {
                let same4 = join.ipv4.is_some() && join.ipv4 == attachment.ipv4.map(|(address, _)| address);
                let same6 = join.ipv6.is_some() && join.ipv6 == attachment.ipv6.map(|(address, _)| address);
                attachment.network == join.network && (same4 || same6)
            })
        };
        if !wanted.iter().any(clash) {
            return Ok(None);
        }
        let joins = attachments
            .iter()
            .map(|attachment| Join {
                network: attachment.network.clone(),
                aliases: attachment.aliases.clone(),
                ipv4: attachment.ipv4.map(|(address, _)| address).filter(|_| attachment.static_address),
                ipv6: attachment.ipv6.map(|(address, _)| address).filter(|_| attachment.static_address),
                mac: attachment.mac.clone(),
                ifname: Some(attachment.ifname.clone()),
                gateway_priority: attachment.gateway_priority,
                link_local: attachment.link_local.clone(),
                ..Join::default()
            })
            .collect();
        hooks::stop(self.engine, old, self.timeout)?;
        self.engine.leave_networks(old)?;
        Ok(Some(joins))
    }

    pub(super) fn stop_old(&self, pair: &Pair) -> Result<()> {
        failpoint::reach("stop old");
        hooks::stop(self.engine, &pair.old, self.timeout)
    }

    /// Starts the new container.
    pub(super) fn start_new(&self, pair: &Pair) -> Result<()> {
        failpoint::reach("start new");
        self.pre_start(&pair.target, &pair.new)?;
        hooks::start(self.engine, &pair.new).map_err(|error| {
            self.show_last_lines(&pair.new);
            error.context(format!("start container {}", pair.target.name))
        })
    }

    /// The new container stays: the old one goes, and its name passes on.
    pub(super) fn finish(&self, pair: &Pair) -> Result<Container> {
        failpoint::reach("remove old");
        self.engine.remove(&pair.old, true, false)?;
        failpoint::reach("rename");
        self.engine.rename(&pair.new, &pair.target.name)?;
        let now = Container::load(&self.engine.roots, &pair.new.config.id)?;
        now.with_context(|| format!("container {} has gone", pair.target.name))
    }

    /// The new container goes, and the old one runs again if it ran before.
    pub(super) fn bring_back(&self, pair: &Pair) {
        // The error that led here is what is told.
        if self.engine.remove(&pair.new, true, false).is_ok() {
            self.drop_volumes(&pair.new, &pair.old);
        }
        self.restore(&pair.old, pair.gave_up.as_deref());
        self.progress.note(&format!("Container {} is as it was before.", pair.old.config.name));
    }

    fn restore(&self, old: &Container, joins: Option<&[Join]>) {
        if let Some(joins) = joins {
            let _ = self.engine.join_networks(old, joins);
        }
        if old.state.status.is_up() {
            let _ = hooks::start(self.engine, old);
        }
    }
}
