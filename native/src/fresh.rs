//! What every write of an object asks of it, whatever its kind: new identities, and metadata that is looked through
//! once. See kubecore/apiserver/registry/{lifecycle,store}.py and registry/validation/metadata.py.

use kubecore_core::selector::{
    dns_label_problems, label_key_problems, label_value_problems, subdomain_problems,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyString};

/// Of generated names: without vowels and look-alikes (upstream k8s.io/apimachinery pkg/util/rand).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// All annotations of an object together.
const MOST_ANNOTATIONS: usize = 256 * 1024;

#[pyfunction]
fn new_uid() -> String {
    let bits = rand::random::<u128>() & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[pyfunction]
#[pyo3(signature = (length = 5))]
fn random_suffix(length: usize) -> String {
    (0..length).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

// --- outlines

/// Marks behind a member's name; what is no mark cannot be mistaken for one, since names say their length first.
const SCALAR: u8 = 0;
const NULL: u8 = 1;
const OPEN: u8 = 2;
const CLOSE: u8 = 3;
const NAME: u8 = 4;

/// Adds the members of an object; false when there is a list or a number with a fraction in it.
fn add_members(object: &Bound<'_, PyDict>, found: &mut Vec<u8>) -> PyResult<bool> {
    for (name, value) in object {
        let name = name.cast::<PyString>()?.to_str()?;
        found.push(NAME);
        found.extend_from_slice(&name.len().to_le_bytes());
        found.extend_from_slice(name.as_bytes());
        if value.is_exact_instance_of::<PyString>()
            || value.is_exact_instance_of::<PyInt>()
            || value.is_exact_instance_of::<PyBool>()
        {
            found.push(SCALAR);
        } else if let Ok(inner) = value.cast_exact::<PyDict>() {
            found.push(OPEN);
            if !add_members(inner, found)? {
                return Ok(false);
            }
            found.push(CLOSE);
        } else if value.is_none() {
            found.push(NULL);
        } else {
            return Ok(false);
        }
    }
    Ok(true)
}

#[pyfunction]
fn outline<'py>(object: &Bound<'py, PyDict>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let mut found = Vec::with_capacity(512);
    Ok(add_members(object, &mut found)?.then(|| PyBytes::new(object.py(), &found)))
}

// --- metadata

/// The text, None where it is something else.
fn text<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    value.cast::<PyString>().ok()?.to_str().ok()
}

fn is_subdomain(value: &str) -> bool {
    subdomain_problems(value).is_empty()
}

/// A generateName whose names are subdomains: its trailing hyphen will not be their end.
fn begins_subdomain(value: &str) -> bool {
    match value.strip_suffix('-') {
        Some(begin) if !begin.is_empty() => is_subdomain(&format!("{begin}a")),
        _ => is_subdomain(value),
    }
}

/// Whether `holds` for every key and value of a map of texts.
fn all_pairs(map: &Bound<'_, PyAny>, mut holds: impl FnMut(&str, &str) -> bool) -> bool {
    let Ok(map) = map.cast::<PyDict>() else { return false };
    map.iter().all(|(key, value)| match (text(&key), text(&value)) {
        (Some(key), Some(value)) => holds(key, value),
        _ => false,
    })
}

fn are_labels(labels: &Bound<'_, PyAny>) -> bool {
    all_pairs(labels, |key, value| {
        label_key_problems(key).is_empty() && label_value_problems(value).is_empty()
    })
}

fn are_annotations(annotations: &Bound<'_, PyAny>) -> bool {
    let mut size = 0;
    // Case does not count in their keys.
    all_pairs(annotations, |key, value| {
        size += key.len() + value.len();
        size <= MOST_ANNOTATIONS && key.is_ascii() && label_key_problems(&key.to_ascii_lowercase()).is_empty()
    })
}

fn are_owners(owners: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Ok(owners) = owners.cast::<PyList>() else { return Ok(false) };
    let mut controllers = 0;
    for owner in owners {
        let Ok(owner) = owner.cast::<PyDict>() else { return Ok(false) };
        let mut said = Vec::with_capacity(4);
        for field in ["apiVersion", "kind", "name", "uid"] {
            let Some(value) = owner.get_item(field)? else { return Ok(false) };
            match text(&value) {
                Some("") | None => return Ok(false),
                Some(value) => said.push(value.to_owned()),
            }
        }
        if said[0].ends_with('/') || (said[0] == "v1" && said[1] == "Event") {
            return Ok(false);
        }
        if let Some(controller) = owner.get_item("controller")? {
            controllers += usize::from(controller.is_truthy()?);
        }
    }
    Ok(controllers <= 1)
}

/// Whether nothing is wrong with a member of metadata; false, too, where that takes a closer look.
fn is_plain(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(match name {
        "name" => text(value).is_some_and(is_subdomain),
        "generateName" => text(value).is_some_and(begins_subdomain),
        "namespace" => text(value).is_some_and(|value| dns_label_problems(value).is_empty()),
        "generation" => value.extract::<i64>().is_ok_and(|generation| generation >= 0),
        "labels" => are_labels(value),
        "annotations" => are_annotations(value),
        "ownerReferences" => are_owners(value)?,
        "uid"
        | "creationTimestamp"
        | "resourceVersion"
        | "managedFields"
        | "deletionTimestamp"
        | "deletionGracePeriodSeconds" => true,
        _ => false,
    })
}

#[pyfunction]
fn is_plain_metadata(metadata: &Bound<'_, PyDict>, namespaced: bool) -> PyResult<bool> {
    for (name, value) in metadata {
        let Some(name) = text(&name) else { return Ok(false) };
        if !is_plain(name, &value)? {
            return Ok(false);
        }
    }
    Ok(metadata.contains("name")? && metadata.contains("namespace")? == namespaced)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(new_uid, module)?)?;
    module.add_function(wrap_pyfunction!(random_suffix, module)?)?;
    module.add_function(wrap_pyfunction!(outline, module)?)?;
    module.add_function(wrap_pyfunction!(is_plain_metadata, module)?)
}
