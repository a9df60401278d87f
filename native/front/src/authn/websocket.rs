//! Tokens of browsers, which can set no header on a WebSocket but the protocols it offers.
//!
//! Source: apiserver `pkg/authentication/request/websocket/protocol.go`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Makes an offered protocol that is a token what it means: a bearer token. Nothing more is seen of it, so that whoever
/// negotiates the protocol, or a backend, knows the other ones only. It counts beside another protocol alone.
pub fn take_offered_token(headers: &mut HeaderMap) {
    if headers.contains_key(AUTHORIZATION) {
        return;
    }
    let mut token = None;
    let mut others = Vec::new();
    for offered in headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok()) {
        for protocol in offered.split(',').map(str::trim) {
            match protocol.strip_prefix(PREFIX) {
                Some(encoded) if token.is_none() => token = URL_SAFE_NO_PAD.decode(encoded).ok(),
                // A second one makes it unclear which is meant.
                Some(_) => return,
                None => others.push(protocol.to_owned()),
            }
        }
    }
    let Some(token) = token.filter(|token| !token.is_empty() && !others.is_empty()) else { return };
    let mut bearer = b"Bearer ".to_vec();
    bearer.extend_from_slice(&token);
    let (Ok(bearer), Ok(others)) =
        (HeaderValue::from_bytes(&bearer), HeaderValue::try_from(others.join(",")))
    else {
        return;
    };
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(protocols: &str) -> (Option<String>, String) {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocols).unwrap());
        take_offered_token(&mut headers);
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (text(AUTHORIZATION), text(SEC_WEBSOCKET_PROTOCOL).unwrap())
    }

    #[test]
    fn a_token_among_the_protocols_is_a_bearer_token() {
        let protocols = "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io";
        assert_eq!(offered(protocols), (Some("Bearer secret".into()), "v5.channel.k8s.io".into()));
    }

    #[test]
    fn a_token_alone_or_a_broken_one_counts_for_nothing() {
        for protocols in [
            "base64url.bearer.authorization.k8s.io.c2VjcmV0",
            "x",
            "base64url.bearer.authorization.k8s.io.*,x",
        ] {
            assert_eq!(offered(protocols), (None, protocols.to_owned()));
        }
    }
}
