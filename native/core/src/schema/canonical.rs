//! The canonical form of strings that Kubernetes parses and writes anew.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::model::{Shape, Struct};
use super::{quantity, time};

pub(crate) use super::quantity::QUANTITY_FORM;
pub use super::quantity::canonical as quantity;

/// `Ok(None)` when the text is canonical already; errors in Go's words.
pub(crate) fn text(shape: &Shape, text: &str) -> Result<Option<String>, String> {
    match shape {
        Shape::Quantity => quantity::canonical(text),
        Shape::Time => time::canonical(text, false),
        Shape::MicroTime => time::canonical(text, true),
        Shape::Bytes => base64_text(text),
        // The decoder writes the text between quotes: int-or-string keeps the string as it stands.
        _ => Ok(None),
    }
}

/// The members of a struct that are missing, by their bits in `always`, with their zero values.
pub(super) fn zeros(structure: &Struct, mut missing: u64, after_others: bool) -> String {
    let mut text = String::new();
    while missing != 0 {
        let field = &structure.fields[missing.trailing_zeros() as usize];
        missing &= missing - 1;
        let comma = if after_others || !text.is_empty() { "," } else { "" };
        let zero = field.always.as_deref().unwrap_or("null");
        let _ = write!(text, "{comma}\"{}\":{zero}", field.name);
    }
    text
}

/// Go's decoder skips line breaks within base64.
fn base64_text(text: &str) -> Result<Option<String>, String> {
    match check_base64(text) {
        Ok(()) => Ok(None),
        Err(at) => {
            let joined: String = text.chars().filter(|&c| c != '\n' && c != '\r').collect();
            match check_base64(&joined) {
                Ok(()) => Ok(Some(joined)),
                Err(_) => Err(format!("illegal base64 data at input byte {at}")),
            }
        }
    }
}

/// The position of the first fault.
fn check_base64(text: &str) -> Result<(), usize> {
    match STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _)) => Err(at),
        Err(base64::DecodeError::InvalidLastSymbol(at, _)) => Err(at),
        Err(_) => Err(text.len() / 4 * 4),
    }
}
