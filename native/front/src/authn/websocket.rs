//! Tokens of browsers, which can set no header on a WebSocket but the protocols it offers.
//!
//! Source: apiserver `pkg/authentication/request/websocket/protocol.go`.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use super::bearer;
use crate::exchange::asks_for_websocket;

const PREFIX: &[u8] = b"base64url.bearer.authorization.k8s.io.";
/// As Go decodes: what is left over of the last letter counts for nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// A token that is offered, but not so that it could be anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What is offered with a token: as the header that means the same, and the other protocols.
type Offer = (HeaderValue, HeaderValue);

/// Makes an offered protocol that is a token what it means: a bearer token. Nothing more is seen of it, so that whoever
/// negotiates the protocol, or a backend, knows the other ones only. A broken one stays, to be judged where nobody is
/// known by anything else.
pub fn take_offered_token(headers: &mut HeaderMap) {
    if headers.get(AUTHORIZATION).is_some_and(|value| bearer(value).is_some()) {
        return;
    }
    if let Ok(Some((bearer, others))) = offered(headers) {
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
    }
}

/// None where no token is offered for a WebSocket. It counts beside another protocol alone, which can be agreed on; a
/// second one makes it unclear which is meant.
pub fn offered(headers: &HeaderMap) -> Result<Option<Offer>, Broken> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) || !asks_for_websocket(headers) {
        return Ok(None);
    }
    let mut encoded = None;
    let mut others = Vec::new();
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        for protocol in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            match protocol.strip_prefix(PREFIX) {
                Some(_) if encoded.is_some() => return Err(Broken),
                Some(token) => encoded = Some(token),
                None => others.push(protocol),
            }
        }
    }
    let token = encoded.map(|encoded| BASE64.decode(encoded)).transpose().map_err(|_| Broken)?;
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
    // One that no header could bring is nobody's.
    if others.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(Broken);
    }
    let bearer = [b"Bearer ", token.as_slice()].concat();
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).map_err(|_| Broken);
    Ok(Some((value(&bearer)?, value(&others.join(&b','))?)))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn asking(headers: &[(&str, &str)]) -> HeaderMap {
        let asked = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        let all = asked.iter().chain(headers);
        all.map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    /// The bearer token that is made of what is offered, and the protocols that stay.
    fn taken(mut headers: HeaderMap) -> (Option<String>, String) {
        take_offered_token(&mut headers);
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (text(AUTHORIZATION), text(SEC_WEBSOCKET_PROTOCOL).unwrap())
    }

    #[test]
    fn a_token_among_the_protocols_is_a_bearer_token() {
        let protocols = "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io";
        let expected = (Some("Bearer secret".to_owned()), "v5.channel.k8s.io".to_owned());
        let offered = ("sec-websocket-protocol", protocols);
        assert_eq!(taken(asking(&[offered])), expected);
        assert_eq!(taken(asking(&[("authorization", "Basic YTpi"), offered])), expected);
    }

    #[test]
    fn it_counts_for_websockets_alone_and_where_there_is_no_other() {
        let protocols = "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io";
        let mut other = asking(&[("sec-websocket-protocol", protocols)]);
        other.insert("upgrade", HeaderValue::from_static("SPDY/3.1"));
        assert_eq!((offered(&other), taken(other.clone()).0), (Ok(None), None));
        let header = asking(&[("authorization", "Bearer a"), ("sec-websocket-protocol", protocols)]);
        assert_eq!(taken(header), (Some("Bearer a".into()), protocols.into()));
    }

    #[test]
    fn a_token_alone_a_second_and_one_in_other_letters_are_broken() {
        for protocols in [
            "base64url.bearer.authorization.k8s.io.c2VjcmV0",
            "base64url.bearer.authorization.k8s.io.*,x",
            "base64url.bearer.authorization.k8s.io.c2VjcmV0==,x",
            "base64url.bearer.authorization.k8s.io.c2VjcmV0,x,base64url.bearer.authorization.k8s.io.c2VjcmV0",
            // "a b", and a byte that is no text.
            "base64url.bearer.authorization.k8s.io.YSBi,x",
            "base64url.bearer.authorization.k8s.io._w,x",
        ] {
            let headers = asking(&[("sec-websocket-protocol", protocols)]);
            assert_eq!(offered(&headers), Err(Broken), "{protocols}");
            assert_eq!(taken(headers), (None, protocols.to_owned()));
        }
    }

    #[test]
    fn protocols_without_a_token_say_nothing_of_who_asks() {
        for protocols in ["x", "base64url.bearer.authorization.k8s.io., x"] {
            let headers = asking(&[("sec-websocket-protocol", protocols)]);
            assert_eq!((offered(&headers), taken(headers)), (Ok(None), (None, protocols.to_owned())));
        }
    }
}
