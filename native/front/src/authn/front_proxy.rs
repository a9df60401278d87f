//! Users that a proxy in front has authenticated, told in headers; believed of certain certificates only.
//!
//! Source: apiserver `pkg/authentication/request/headerrequest`.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName};
use kubecore_core::authn::UserInfo;
use percent_encoding::percent_decode_str;

use super::certificate::ClientCa;

/// Whom to believe, and which headers say what.
#[derive(Debug)]
pub struct FrontProxy {
    pub ca: ClientCa,
    /// Common names of the proxies; none: any certificate of the CA does.
    pub names: Vec<String>,
    pub user_headers: Vec<HeaderName>,
    pub uid_headers: Vec<HeaderName>,
    pub group_headers: Vec<HeaderName>,
    /// In lower case.
    pub extra_prefixes: Vec<String>,
}

impl FrontProxy {
    pub(super) fn believes(&self, common_name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == common_name)
    }

    pub(super) fn tells_in(&self, name: &HeaderName) -> bool {
        let mut named = self.user_headers.iter().chain(&self.uid_headers).chain(&self.group_headers);
        named.any(|own| own == name)
            || self.extra_prefixes.iter().any(|prefix| name.as_str().starts_with(prefix.as_str()))
    }

    /// The user that the headers name, if they name one.
    pub(super) fn user(&self, headers: &HeaderMap) -> Option<Arc<UserInfo>> {
        let username = first(headers, &self.user_headers)?;
        let groups = self.group_headers.iter().flat_map(|name| headers.get_all(name));
        let groups = groups.map(|value| text(value.as_bytes())).filter(|group| !group.is_empty());
        let user = UserInfo {
            username,
            uid: first(headers, &self.uid_headers).unwrap_or_default(),
            groups: groups.collect(),
            extra: self.extra(headers),
        };
        Some(Arc::new(user.with_authenticated_group()))
    }

    fn extra(&self, headers: &HeaderMap) -> Vec<(String, Vec<String>)> {
        let mut extra: Vec<(String, Vec<String>)> = Vec::new();
        for prefix in &self.extra_prefixes {
            for name in headers.keys() {
                let Some(key) = name.as_str().strip_prefix(prefix.as_str()) else { continue };
                let key = unescaped(key);
                let values = headers.get_all(name).iter().map(|value| text(value.as_bytes()));
                match extra.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, known)) => known.extend(values),
                    None => extra.push((key, values.collect())),
                }
            }
        }
        extra
    }
}

fn first(headers: &HeaderMap, names: &[HeaderName]) -> Option<String> {
    let values = names.iter().filter_map(|name| headers.get(name));
    values.map(|value| text(value.as_bytes())).find(|value| !value.is_empty())
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Percent escapes resolved; a key with broken ones stays as it is.
fn unescaped(key: &str) -> String {
    let holds = key.split('%').skip(1).all(|after| {
        after.len() >= 2
            && after.is_char_boundary(2)
            && after[..2].bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if !holds {
        return key.to_owned();
    }
    percent_decode_str(key).decode_utf8_lossy().into_owned()
}
