//! Networks without a bridge: interfaces of containers that hang on a link of the host by macvlan or ipvlan, and
//! are in that link's own network. Nothing is translated and nothing filtered; the host itself cannot reach them.

use serde::{Deserialize, Serialize};

use crate::endpoint::valid_ifname;
use crate::link::{LinkError, Links, Sub, SubKind};
use crate::network::Network;

/// Why a parent link could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// A change of a link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// There is no such link, and it cannot be made.
    #[error("the parent interface {0} does not exist on this host")]
    NoParent(String),
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Interfaces with hardware addresses of their own.
    Macvlan,
    /// Interfaces with the parent's hardware address.
    Ipvlan,
}

/// How interfaces hang on the parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Direct {
    /// Which driver.
    pub kind: Kind,
    /// The link of the host: one that is there, `LINK.VLAN` which is made, or a dummy of our own.
    pub parent: String,
    /// `bridge`, `vepa`, `private`, `passthru`; `l2`, `l3`, `l3s`.
    pub mode: String,
    /// ipvlan's `bridge`, `private` or `vepa`.
    pub flag: String,
    /// The parent is a dummy, made for this network alone.
    pub dummy: bool,
}

impl Direct {
    /// The defaults: on a dummy link, so that the containers reach only each other.
    pub(crate) fn new(kind: Kind, id: &str) -> Self {
        let mode = if kind == Kind::Macvlan { "bridge" } else { "l2" }.to_owned();
        let parent = format!("dm-{}", umiak_base::id::short(id));
        Self { kind, parent, mode, flag: "bridge".to_owned(), dummy: true }
    }

    /// Takes an option of the driver, if it is one; an unfit value fails with what would fit.
    pub(crate) fn apply_option(&mut self, option: &str, value: &str) -> Result<bool, &'static str> {
        let one_of = |all: &[&str], text| if all.contains(&value) { Ok(value.to_owned()) } else { Err(text) };
        match (option, self.kind) {
            ("parent", _) if valid_ifname(value) => (self.parent, self.dummy) = (value.to_owned(), false),
            ("parent", _) => return Err("the name of an interface of the host"),
            ("macvlan_mode", Kind::Macvlan) => {
                let all = ["bridge", "vepa", "private", "passthru"];
                self.mode = one_of(&all, "bridge, vepa, private or passthru")?;
            }
            ("ipvlan_mode", Kind::Ipvlan) => self.mode = one_of(&["l2", "l3", "l3s"], "l2, l3 or l3s")?,
            ("ipvlan_flag", Kind::Ipvlan) => {
                self.flag = one_of(&["bridge", "private", "vepa"], "bridge, private or vepa")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The parent routes: there is no gateway to ask for.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.kind == Kind::Ipvlan && self.mode != "l2"
    }

    /// Makes the parent where it is ours to make: a dummy, or a VLAN of a link that is there.
    pub(crate) fn up(&self, links: &Links, network: &Network) -> Result<(), DirectError> {
        if links.get(&self.parent)?.is_some() {
            return Ok(());
        }
        let made = if self.dummy {
            links.add_sub(&Sub {
                name: &self.parent,
                parent: 0,
                kind: SubKind::Dummy,
                netns: None,
                mac: None,
                mtu: network.mtu,
            })
        } else {
            let none = || DirectError::NoParent(self.parent.clone());
            let (base, vlan) = self.parent.rsplit_once('.').ok_or_else(none)?;
            let id = vlan.parse().ok().filter(|id| (1..=4094).contains(id)).ok_or_else(none)?;
            let base = links.get(base)?.ok_or_else(none)?;
            let kind = SubKind::Vlan(id);
            links.add_sub(&Sub {
                name: &self.parent,
                parent: base.index,
                kind,
                netns: None,
                mac: None,
                mtu: network.mtu,
            })
        };
        match made {
            // Another command was first.
            Err(error) if error.errno() == Some(libc::EEXIST) => return Ok(()),
            result => result?,
        }
        links.up(links.index(&self.parent)?, &self.parent, Some(&alias(network)))?;
        Ok(())
    }

    /// Removes the parent if it was made for this network.
    pub(crate) fn down(&self, links: &Links, network: &Network) -> Result<(), DirectError> {
        if links.get(&self.parent)?.is_some_and(|link| link.alias.as_deref() == Some(&alias(network))) {
            links.delete(&self.parent)?;
        }
        Ok(())
    }

    /// The interface to make in a container.
    pub(crate) fn sub(&self) -> SubKind {
        match self.kind {
            Kind::Macvlan => SubKind::Macvlan(self.mode.clone()),
            Kind::Ipvlan => SubKind::Ipvlan(self.mode.clone(), self.flag.clone()),
        }
    }
}

fn alias(network: &Network) -> String {
    format!("umiak network {}", network.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_understood_or_refused() {
        let mut direct = Direct::new(Kind::Macvlan, "0123456789abcdef");
        assert_eq!((direct.parent.as_str(), direct.dummy, direct.mode.as_str()), ("dm-0123456789ab", true, "bridge"));
        assert_eq!(direct.apply_option("parent", "eth0.50"), Ok(true));
        assert_eq!((direct.parent.as_str(), direct.dummy), ("eth0.50", false));
        assert_eq!(direct.apply_option("macvlan_mode", "private"), Ok(true));
        assert!(direct.apply_option("macvlan_mode", "l3").is_err() && direct.apply_option("parent", "a/b").is_err());
        assert_eq!(direct.apply_option("ipvlan_mode", "l3"), Ok(false));
        let mut direct = Direct::new(Kind::Ipvlan, "0123456789abcdef");
        assert!(!direct.is_routed() && direct.apply_option("ipvlan_mode", "l3s") == Ok(true) && direct.is_routed());
    }
}
