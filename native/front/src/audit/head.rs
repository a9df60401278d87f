//! What a request's head says, as far as the audit tells of it: held by reference count where the front has it anyway.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use kubecore_core::rbac::Attributes;

use crate::exchange::attributes_of;
use crate::request_info::RequestInfo;

/// Text that a request brings.
#[derive(Clone, Debug)]
pub enum Text {
    /// None, or no ASCII: empty.
    Header(Option<HeaderValue>),
    Path(PathAndQuery),
    Own(Arc<str>),
}

impl Text {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Header(value) => value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or(""),
            Self::Path(path) => path.as_str(),
            Self::Own(text) => text,
        }
    }

    /// As they came, which is enough to tell whether a text is the same as another.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Header(value) => value.as_ref().map_or(b"", HeaderValue::as_bytes),
            Self::Path(path) => path.as_str().as_bytes(),
            Self::Own(text) => text.as_bytes(),
        }
    }
}

/// Where a request comes from: the last one is who the connection is with.
#[derive(Clone, Debug)]
pub enum Sources {
    Direct(IpAddr),
    Through(Arc<[IpAddr]>),
}

impl Sources {
    pub fn as_slice(&self) -> &[IpAddr] {
        match self {
            Self::Direct(one) => std::slice::from_ref(one),
            Self::Through(all) => all,
        }
    }
}

/// What a request asks for.
#[derive(Clone)]
pub enum Asked {
    Read(Arc<RequestInfo>),
    Told(Arc<Told>),
}

/// What a request that has no path to be read asks for, field by field as `Attributes` has them.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub verb: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
    pub is_resource: bool,
}

impl Asked {
    pub fn attributes(&self) -> Attributes<'_> {
        match self {
            Self::Read(info) => attributes_of(info),
            Self::Told(told) => Attributes {
                verb: &told.verb,
                group: &told.group,
                version: &told.version,
                resource: &told.resource,
                subresource: &told.subresource,
                namespace: &told.namespace,
                name: &told.name,
                path: &told.path,
                is_resource: told.is_resource,
            },
        }
    }
}

#[derive(Clone)]
pub struct Head {
    pub audit_id: Text,
    pub uri: Text,
    pub sources: Sources,
    pub user_agent: Text,
    pub asked: Asked,
    pub received: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_no_ascii_says_nothing() {
        assert_eq!(Text::Header(HeaderValue::from_bytes(b"caf\xc3\xa9").ok()).as_str(), "");
        assert_eq!(Text::Header(None).as_str(), "");
        assert_eq!(Text::Header(Some(HeaderValue::from_static("kubectl"))).as_str(), "kubectl");
    }
}
