//! The functions that expressions may call, and with what: `declarations.txt`, read once.

use std::sync::{Arc, LazyLock};

use rustc_hash::FxHashMap;

use super::types::Type;

/// One way to call a function. Its variables are [`Type::Param`]s of its own.
#[derive(Debug)]
pub(crate) struct Overload {
    /// Called on its first argument.
    pub member: bool,
    pub args: Vec<Type>,
    pub result: Type,
}

pub(crate) type OverloadRef = &'static Overload;

static FUNCTIONS: LazyLock<FxHashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| read(TEXT));
static OF_ADMISSION: LazyLock<FxHashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| read(ADMISSION));
const TEXT: &str = include_str!("declarations.txt");
const ADMISSION: &str = include_str!("declarations_admission.txt");

/// All ways to call a function; None where there is no such function.
pub(crate) fn overloads(name: &str) -> Option<&'static [Overload]> {
    FUNCTIONS.get(name).map(Vec::as_slice)
}

/// As `overloads`, of what only expressions of admission may call.
pub(crate) fn overloads_of_admission(name: &str) -> Option<&'static [Overload]> {
    OF_ADMISSION.get(name).map(Vec::as_slice)
}

/// The name of a type as a value.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "google.protobuf.Duration" => Type::Duration,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "string" => Type::String,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "type" => Type::Meta(None),
        "uint" => Type::Uint,
        "optional_type" => Type::optional(Type::Dyn),
        name => Type::Named(NAMED.iter().find(|known| **known == name)?),
    })
}

const NAMED: [&str; 6] = [
    "kubernetes.NamedFormat",
    "kubernetes.Quantity",
    "kubernetes.Semver",
    "kubernetes.URL",
    "net.CIDR",
    "net.IP",
];

/// Types of the authorizer, and of what is asked of it.
pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub(crate) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
const AUTHORIZATION: [&str; 5] = [
    AUTHORIZER,
    "kubernetes.authorization.Decision",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.PathCheck",
    RESOURCE_CHECK,
];

fn of_authorization(name: &str) -> Option<Type> {
    AUTHORIZATION.iter().find(|known| **known == name).map(|known| Type::Named(known))
}

fn read(text: &'static str) -> FxHashMap<&'static str, Vec<Overload>> {
    let mut functions: FxHashMap<&'static str, Vec<Overload>> = FxHashMap::default();
    let mut names = "";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (head, alternatives) = match line.split_once(" |") {
            Some((head, rest)) if !line.starts_with(' ') => (Some(head), rest),
            _ => (None, line),
        };
        names = head.unwrap_or(names);
        for alternative in alternatives.split(';').map(str::trim).filter(|text| !text.is_empty()) {
            let Some((args, result)) = alternative.split_once("->") else { continue };
            for name in names.split(' ').filter(|name| !name.is_empty()) {
                let member = name.starts_with('.');
                let mut reader = Reader { rest: args.trim() };
                let args = reader.types();
                let result = Reader { rest: result.trim() }.ty();
                let plain = name.strip_prefix('.').unwrap_or(name);
                functions.entry(plain).or_default().push(Overload { member, args, result });
            }
        }
    }
    functions
}

struct Reader {
    rest: &'static str,
}

impl Reader {
    fn types(&mut self) -> Vec<Type> {
        let mut types = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(')') {
            types.push(self.ty());
            self.rest = self.rest.trim_start_matches([',', ' ']);
        }
        types
    }

    fn ty(&mut self) -> Type {
        let end = self.rest.find(['(', ')', ',']).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        let mut params = Vec::new();
        if let Some(inside) = rest.strip_prefix('(') {
            self.rest = inside;
            params = self.types();
            self.rest = self.rest.strip_prefix(')').unwrap_or_default();
        }
        let mut params = params.into_iter();
        let mut param = || params.next().unwrap_or(Type::Dyn);
        match name.trim() {
            "list" => Type::list(param()),
            "map" => Type::map(param(), param()),
            "optional_type" => Type::optional(param()),
            "type" => Type::Meta(Some(Arc::new(param()))),
            "duration" => Type::Duration,
            "timestamp" => Type::Timestamp,
            "dyn" => Type::Dyn,
            name if name.len() == 1 => Type::Param(u32::from(name.as_bytes()[0])),
            name => type_named(name).or_else(|| of_authorization(name)).unwrap_or(Type::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_is_read() {
        assert!(FUNCTIONS.len() > 120);
        for (name, overloads) in FUNCTIONS.iter() {
            assert!(!overloads.is_empty(), "{name}");
            for overload in overloads {
                let all = overload.args.iter().chain([&overload.result]);
                assert!(all.into_iter().all(|ty| !matches!(ty, Type::Error)), "{name}: {overload:?}");
            }
        }
        let index: Vec<String> = overloads("_[_]")
            .unwrap()
            .iter()
            .map(|overload| {
                let args: Vec<String> = overload.args.iter().map(Type::shown).collect();
                format!("{} -> {}", args.join(", "), overload.result.shown())
            })
            .collect();
        assert_eq!(index[1], "map(_var65, _var66), _var65 -> _var66");
    }
}
