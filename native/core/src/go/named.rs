//! Types of fields that have a name of their own in Go where JSON has a text, a list or a map: decoders and converters
//! name them when they are given something else. `named.txt` has them as reflection tells them of k8s.io/api v0.35, of
//! versions that are served: a struct by group and version, its field, the field's type. `tests/e2e/protobuf/named`
//! prints it.

const TABLE: &str = include_str!("named.txt");
/// Those that are no text.
const MAPS: [&str; 3] = ["v1.JSONSchemaDefinitions", "v1.JSONSchemaDependencies", "v1.ResourceList"];
const LISTS: [&str; 4] = ["v1.ExtraValue", "v1.ValidationRules", "v1.Verbs", "v1beta1.ExtraValue"];

/// The type of a field of a struct, which is told by its definition's name.
pub(crate) fn named_type(definition: &str, field: &str) -> Option<&'static str> {
    TABLE.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (owner, name, named) = (words.next()?, words.next()?, words.next()?);
        let package = definition.strip_suffix(owner)?;
        (name == field && package.ends_with('.')).then_some(named)
    })
}

/// What values of such a type are in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Underlying {
    Text,
    List,
    Map,
}

/// None for a type that has no such name.
pub(crate) fn underlying(named: &str) -> Option<Underlying> {
    if MAPS.contains(&named) {
        return Some(Underlying::Map);
    }
    if LISTS.contains(&named) {
        return Some(Underlying::List);
    }
    let is_known = TABLE.lines().filter_map(|line| line.rsplit(' ').next()).any(|known| {
        let element = known.trim_start_matches("[]").trim_start_matches("map[string]");
        element == named
    });
    is_known.then_some(Underlying::Text)
}
