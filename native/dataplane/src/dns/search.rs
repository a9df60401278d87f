//! The search path gone through by the server ("autopath"): a pod's resolver appends each domain of its search path in
//! turn, so that a name outside the cluster costs it four queries. The first of them already tells what the others will
//! be: the server goes through them itself, and answers with an alias from the name asked for to the one that exists.

use std::net::IpAddr;

use hickory_proto::rr::{Name, RecordType};
use rustc_hash::FxHashMap;

use super::names::{Key, is_below, key};

/// Who the clients are, and where the host looks after the cluster's domains.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The namespace of the pod that has an address, as the domain that its search path begins with.
    clients: FxHashMap<IpAddr, (Name, Key)>,
    host: Vec<Name>,
}

impl Search {
    pub(super) fn set_client(&mut self, address: IpAddr, first_domain: Option<Name>) {
        match first_domain {
            Some(domain) => self.clients.insert(address, (domain.clone(), key(&domain))),
            None => self.clients.remove(&address),
        };
    }

    pub(super) fn set_host(&mut self, domains: Vec<Name>) {
        self.host = domains;
    }

    /// The names that the client asks for next, once it hears that `name` does not exist; none when `name` is not the
    /// first of a search. `domain` is the cluster's.
    pub(super) fn next_names(
        &self,
        client: IpAddr,
        name: &Name,
        kind: RecordType,
        domain: &Name,
    ) -> Option<Vec<Name>> {
        if !matches!(kind, RecordType::A | RecordType::AAAA) {
            return None;
        }
        let (first, first_key) = self.clients.get(&client)?;
        let asked = key(name);
        if asked.len() == first_key.len() || !is_below(&asked, first_key) {
            return None;
        }
        let labels = usize::from(name.num_labels().checked_sub(first.num_labels())?);
        let base = Name::from_labels(name.iter().take(labels)).ok()?;
        let services = Name::from_ascii("svc").and_then(|svc| svc.append_domain(domain)).ok()?;
        let below = |parent: &Name| base.clone().append_domain(parent).ok();
        let mut next: Vec<Name> =
            [&services, domain].into_iter().chain(&self.host).filter_map(below).collect();
        let mut plain = base;
        plain.set_fqdn(true);
        next.push(plain);
        Some(next)
    }
}
