//! Bakes `src/protobuf/messages.txt` into constants of the types in `src/protobuf/table.rs`, which cost nothing to load.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

const MESSAGES: &str = "src/protobuf/messages.txt";

struct Field<'a> {
    json: &'a str,
    number: u32,
    /// A message's name, or what is no message.
    kind: String,
    repeat: &'static str,
    keeps_zero: bool,
}

/// By full name: "core.v1.Pod".
type Messages<'a> = BTreeMap<&'a str, Vec<Field<'a>>>;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={MESSAGES}");
    let text = std::fs::read_to_string(MESSAGES).expect("the messages are beside the sources");
    let (mut kinds, mut messages) = (BTreeMap::new(), Messages::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (head, words) = line.split_once(':').expect("every line names what it lists");
        if let Some((version, home)) = head.strip_prefix('@').and_then(|head| head.split_once(' ')) {
            for word in words.split_whitespace() {
                let message = full_name(word, home);
                let kind = word.rsplit('.').next().unwrap_or(word);
                kinds.insert((version, kind), message);
            }
        } else {
            let home = head.rsplit_once('.').expect("messages have full names").0;
            let mut fields: Vec<_> = words.split_whitespace().map(|word| read_field(word, home)).collect();
            fields.sort_by_key(|field| field.number);
            messages.insert(head, fields);
        }
    }
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let path = std::path::Path::new(&out).join("protobuf_tables.rs");
    std::fs::write(path, write_tables(&kinds, &messages)).expect("OUT_DIR is writable");
}

/// Names without a dot are of the package.
fn full_name(name: &str, home: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{home}.{name}") }
}

/// `[sigil]name:number:[[]|{}]type`
fn read_field<'a>(word: &'a str, home: &str) -> Field<'a> {
    let mut parts = word.splitn(3, ':');
    let mut part = || parts.next().unwrap_or_else(|| panic!("{word}: a field has three parts"));
    let (name, number, kind) = (part(), part(), part());
    let json = name.trim_start_matches(['*', '!', '>']);
    let sigil = &name[..name.len() - json.len()];
    let bare = kind.trim_start_matches("[]").trim_start_matches("{}");
    let is_message = bare.contains('.') || bare.starts_with(|c: char| c.is_ascii_uppercase());
    Field {
        json,
        number: number.parse().unwrap_or_else(|_| panic!("{word}: {number} is no number")),
        kind: if is_message { full_name(bare, home) } else { bare.to_owned() },
        repeat: match (&kind[..kind.len() - bare.len()], sigil) {
            ("[]", _) => "List",
            ("{}", _) => "Map",
            (_, ">") => "Inlined",
            _ => "Single",
        },
        keeps_zero: matches!(sigil, "*" | "!"),
    }
}

fn write_tables(kinds: &BTreeMap<(&str, &str), String>, messages: &Messages<'_>) -> String {
    let numbers: HashMap<&str, usize> =
        messages.keys().enumerate().map(|(number, name)| (*name, number)).collect();
    let mut out = format!("pub static MESSAGES: [Message; {}] = [\n", messages.len());
    for (name, fields) in messages {
        let go_name = name.rsplit('.').next().unwrap_or(name);
        let _ = writeln!(out, "Message {{ name: {go_name:?}, fields: &[");
        for Field { json, number, kind, repeat, keeps_zero } in fields {
            let kind = match numbers.get(kind.as_str()) {
                Some(number) => format!("Message({number})"),
                None => scalar(kind).to_owned(),
            };
            let _ = writeln!(
                out,
                "Field {{ number: {number}, json: {json:?}, kind: Kind::{kind}, repeat: Repeat::{repeat}, \
                 keeps_zero: {keeps_zero} }},"
            );
        }
        let _ =
            writeln!(out, "], names: &{:?} }},", json_names(messages, name).into_iter().collect::<Vec<_>>());
    }
    out.push_str("];\n");
    let kinds: Vec<_> = kinds.iter().map(|(key, message)| (key, numbers[message.as_str()])).collect();
    let _ = writeln!(out, "pub static KINDS: [((&str, &str), u16); {}] = {kinds:?};", kinds.len());
    let schema = numbers["apiextensions.v1.JSONSchemaProps"];
    let _ = writeln!(out, "pub const SCHEMA: Kind = Kind::Message({schema});");
    out
}

fn scalar(kind: &str) -> &'static str {
    match kind {
        "string" => "String",
        "bytes" => "Bytes",
        "bool" => "Bool",
        "int32" => "Int32",
        "int64" => "Int64",
        "double" => "Double",
        "time" => "Time",
        "microtime" => "MicroTime",
        "quantity" => "Quantity",
        "intstr" => "IntOrString",
        "json" => "Json",
        "extension" => "Extension",
        "strings" => "Strings",
        "orlist" => "SchemaOrList",
        "orbool" => "SchemaOrBool",
        "orstrings" => "SchemaOrStrings",
        other => panic!("no type is called {other}"),
    }
}

/// JSON names of a message's fields, those of inlined messages among them, with the position of the field.
fn json_names<'a>(messages: &Messages<'a>, name: &str) -> BTreeMap<&'a str, usize> {
    let mut names = BTreeMap::new();
    for (position, field) in messages[name].iter().enumerate() {
        if field.repeat == "Inlined" {
            names.extend(json_names(messages, &field.kind).into_keys().map(|name| (name, position)));
        } else {
            names.insert(field.json, position);
        }
    }
    names
}
