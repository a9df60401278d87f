//! Go's regular expressions (RE2) on the regex crate: the same language, in linear time.

mod translation;

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange, Span};
use rustc_hash::FxHashMap;

use translation::Translator;

/// Compiled patterns kept for the whole process. They are dear, and the same few are used again and again.
const KEPT: usize = 256;
/// How large a program may be, tried one after the other: it bounds memory, and the time to make one, which are a
/// millisecond, some tens of them, and a quarter of a second. The work of that is in steps of `cel::machine`.
const SIZES: [Size; 3] =
    [Size { bytes: 64 << 10, work: 40_000 }, Size { bytes: 4 << 20, work: 2_000_000 }, LARGE];
/// Go shares what a class stands for among its repetitions and regex does not: `\p{L}{63}` takes megabytes. Of patterns
/// that take so many, few are kept.
const LARGE: Size = Size { bytes: 32 << 20, work: 10_000_000 };
const LARGE_KEPT: usize = 4;
/// Bounds the memory of the automaton that a program grows while matching.
const AUTOMATON_BYTES: usize = 1 << 20;
/// Longer patterns are refused: parsed they take a hundred times their size.
const MOST_PATTERN_BYTES: usize = 256 << 10;
/// RE2's own limit.
const MAX_REPEAT: u32 = 1000;
const NEST_LIMIT: u32 = 200;

struct Size {
    bytes: usize,
    work: u64,
}

type Compiled = Result<Arc<Regex>, String>;

/// What has been compiled so far, by pattern.
#[derive(Default)]
struct Known {
    all: FxHashMap<Box<str>, Compiled>,
    large: VecDeque<Box<str>>,
}

impl Known {
    fn keep(&mut self, pattern: &str, compiled: Compiled, large: bool) {
        if self.all.len() >= KEPT {
            *self = Self::default();
        }
        if self.all.insert(pattern.into(), compiled).is_some() || !large {
            return;
        }
        self.large.push_back(pattern.into());
        if self.large.len() > LARGE_KEPT
            && let Some(oldest) = self.large.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// The compiled pattern; the error is Go's `error parsing regexp: ...`.
pub(crate) fn compile(pattern: &str) -> Compiled {
    compile_priced(pattern).0
}

/// The same, and what it took to make it: nothing where it was known.
pub(crate) fn compile_priced(pattern: &str) -> (Compiled, u64) {
    if let Some(known) = KNOWN.lock().all.get(pattern) {
        return (known.clone(), 0);
    }
    let (compiled, size) = compiled(pattern);
    // Kept, too, when it fails: to find a program too large takes as long as to make it.
    if pattern.len() <= MOST_PATTERN_BYTES {
        KNOWN.lock().keep(pattern, compiled.clone(), size.bytes == LARGE.bytes && compiled.is_ok());
    }
    (compiled, size.work)
}

/// The size is the one that was tried last.
fn compiled(pattern: &str) -> (Compiled, &'static Size) {
    let translated = match parsed(pattern) {
        Ok(translated) => translated,
        Err(problem) => return (Err(problem), &SIZES[0]),
    };
    for size in &SIZES {
        let built = RegexBuilder::new(&translated)
            .size_limit(size.bytes)
            .dfa_size_limit(AUTOMATON_BYTES)
            .nest_limit(NEST_LIMIT)
            .build();
        match built {
            Ok(regex) => return (Ok(Arc::new(regex)), size),
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(_) => return (Err(problem("invalid syntax", pattern)), size),
        }
    }
    (Err(problem("expression too large", pattern)), &LARGE)
}

/// Why the pattern is none for Go, or is too large to be matched here.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    compile(pattern).map(drop)
}

/// The pattern in the syntax of the regex crate; the error is Go's.
fn parsed(pattern: &str) -> Result<String, String> {
    let translated = Translator::new(pattern).run()?;
    let failed = |error: regex_syntax::Error| syntax_failure(&error, pattern);
    let ast =
        regex_syntax::ast::parse::ParserBuilder::new().nest_limit(NEST_LIMIT).build().parse(&translated);
    let ast = ast.map_err(|error| failed(error.into()))?;
    copies(&ast).map_err(|span| {
        problem("invalid repeat count", translated.get(span.start.offset..span.end.offset).unwrap_or(pattern))
    })?;
    let read = regex_syntax::hir::translate::Translator::new().translate(&translated, &ast);
    read.map_err(|error| failed(error.into()))?;
    Ok(translated)
}

/// How many copies counted repetitions make of the innermost thing; the operator that makes more than RE2 allows.
fn copies(ast: &Ast) -> Result<u32, Span> {
    let most = |parts: &[Ast]| parts.iter().try_fold(1, |most, part| Ok(copies(part)?.max(most)));
    match ast {
        Ast::Repetition(repetition) => {
            let inner = copies(&repetition.ast)?;
            let RepetitionKind::Range(range) = &repetition.op.kind else { return Ok(inner) };
            let (least, times) = match *range {
                RepetitionRange::Exactly(times) => (times, times),
                RepetitionRange::AtLeast(times) => (times, times.max(1)),
                RepetitionRange::Bounded(least, most) => (least, most),
            };
            // No copy at all is as good as one to what is around it.
            let made = if times == 0 { 1 } else { inner.saturating_mul(times) };
            if least.max(times) >= 2 && made > MAX_REPEAT { Err(repetition.op.span) } else { Ok(made) }
        }
        Ast::Group(group) => copies(&group.ast),
        Ast::Alternation(parts) => most(&parts.asts),
        Ast::Concat(parts) => most(&parts.asts),
        _ => Ok(1),
    }
}

fn problem(what: &str, token: &str) -> String {
    format!("error parsing regexp: {what}: `{token}`")
}

fn syntax_failure(error: &regex_syntax::Error, pattern: &str) -> String {
    use regex_syntax::ast::ErrorKind as Kind;
    let regex_syntax::Error::Parse(error) = error else {
        return problem("invalid character class range", pattern);
    };
    let span = error.span();
    let token = error.pattern().get(span.start.offset..span.end.offset).unwrap_or(pattern);
    match error.kind() {
        Kind::GroupUnclosed => problem("missing closing )", pattern),
        Kind::GroupUnopened => problem("unexpected )", pattern),
        Kind::ClassUnclosed => {
            problem("missing closing ]", error.pattern().get(span.start.offset..).unwrap_or(pattern))
        }
        Kind::ClassRangeInvalid => problem("invalid character class range", token),
        Kind::RepetitionMissing => {
            // The operator stands behind the empty span.
            let rest = error.pattern().get(span.start.offset..).unwrap_or_default();
            let end = if rest.starts_with('{') { rest.find('}').map_or(rest.len(), |at| at + 1) } else { 1 };
            let end = end + usize::from(rest.get(end..).is_some_and(|rest| rest.starts_with('?')));
            problem("missing argument to repetition operator", rest.get(..end).unwrap_or(rest))
        }
        Kind::NestLimitExceeded(_) => problem("expression nests too deeply", pattern),
        Kind::GroupNameDuplicate { .. } => problem("duplicate capture group name", token),
        Kind::GroupNameInvalid | Kind::GroupNameEmpty | Kind::GroupNameUnexpectedEof => {
            problem("invalid named capture", token)
        }
        Kind::EscapeUnexpectedEof => {
            "error parsing regexp: trailing backslash at end of expression: ``".into()
        }
        Kind::EscapeUnrecognized | Kind::UnsupportedBackreference => {
            problem("invalid escape sequence", token)
        }
        _ => problem("invalid or unsupported Perl syntax", token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(pattern).unwrap().is_match(text)
    }

    #[test]
    fn perl_classes_are_ascii() {
        assert!(matches(r"^\d+$", "12"));
        assert!(!matches(r"^\d+$", "١٢"));
        assert!(!matches(r"^\w+$", "é"));
        assert!(matches(r"^\S+$", "é"));
        assert!(matches(r"^[\w.-]+$", "a.b-c_d"));
        assert!(matches(r"^[^\s]$", "x"));
    }

    #[test]
    fn braces_and_brackets_that_mean_nothing_stand_for_themselves() {
        assert!(matches(r"^a{b$", "a{b"));
        assert!(matches(r"^x{,5}$", "x{,5}"));
        assert!(matches(r"^[[]$", "["));
        assert!(matches(r"^[a&&b]+$", "a&b"));
        assert!(matches(r"^\Qa.b\E$", "a.b"));
        assert!(matches(r"^\<\>$", "<>"));
        assert!(matches(r"^[]a]+$", "]a"));
        assert!(matches(r"^[a\]b]+$", "a]b"));
        assert!(matches(r"^[+--]$", ","));
        assert!(matches(r"^\x{1F600}\x41\101$", "😀AA"));
    }

    #[test]
    fn errors_are_worded_as_go_does() {
        for (pattern, message) in [
            ("(", "error parsing regexp: missing closing ): `(`"),
            (")", "error parsing regexp: unexpected ): `)`"),
            ("[a", "error parsing regexp: missing closing ]: `[a`"),
            ("*", "error parsing regexp: missing argument to repetition operator: `*`"),
            ("a**", "error parsing regexp: invalid nested repetition operator: `**`"),
            ("a{1001}", "error parsing regexp: invalid repeat count: `{1001}`"),
            (r"a\1", r"error parsing regexp: invalid escape sequence: `\1`"),
            ("(?=a)", "error parsing regexp: invalid or unsupported Perl syntax: `(?=`"),
            ("(?<!a)", "error parsing regexp: invalid or unsupported Perl syntax: `(?<!`"),
            ("\\", "error parsing regexp: trailing backslash at end of expression: ``"),
            ("[b-a]", "error parsing regexp: invalid character class range: `b-a`"),
            (r"\pX", r"error parsing regexp: invalid character class range: `\pX`"),
            ("((a{100}){10}){2}", "error parsing regexp: invalid repeat count: `{2}`"),
            ("(a{501}b?){2,}", "error parsing regexp: invalid repeat count: `{2,}`"),
        ] {
            assert_eq!(check(pattern), Err(message.to_owned()), "{pattern}");
            assert!(compile(pattern).is_err());
        }
    }

    #[test]
    fn what_blows_up_is_refused_and_what_backtracks_elsewhere_is_quick() {
        let large = r"[\p{L}x]{999}[\p{L}y]{999}";
        assert_eq!(check(large), Err(format!("error parsing regexp: expression too large: `{large}`")));
        let text = "a".repeat(100_000) + "!";
        assert!(!matches(r"^(a+)+$", &text));
    }

    #[test]
    fn counted_repetitions_of_which_none_is_within_another_may_be_many() {
        for pattern in
            ["a{1000}b{1000}", "(a{1000}|b{1000}){1}", "(a{1000}){0,1}", "((a{1000})*)+", "(a{500}){2}"]
        {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn what_it_took_is_told_to_the_first_who_asks() {
        let works = |pattern| [compile_priced(pattern).1, compile_priced(pattern).1];
        assert_eq!(works("^first [a-z]{9}$"), [SIZES[0].work, 0]);
        assert_eq!(works(r"^first \p{L}{20}$"), [SIZES[1].work, 0]);
        assert_eq!(works(r"^first [\p{L}x]{999}[\p{L}y]{999}$"), [LARGE.work, 0]);
    }

    /// OpenShift's, of the hosts of its Ingress configuration.
    #[test]
    fn classes_of_the_worlds_letters_may_be_repeated() {
        let letter = r"[a-zA-Z0-9\p{S}\p{L}]";
        let label = format!(r"{letter}(([a-zA-Z0-9-\p{{S}}\p{{L}}]{{0,61}}{letter})?)");
        let pattern =
            format!(r"^({letter}((-?{letter}{{0,62}})?)|({label}(\.)){{1,}}([a-zA-Z\p{{L}}]){{2,63}})$");
        for (host, good) in [
            ("apps.example.com", true),
            ("bücher.example", true),
            ("-apps.example.com", false),
            ("apps..com", false),
        ] {
            assert_eq!(matches(&pattern, host), good, "{host}");
        }
    }

    #[test]
    fn few_large_programs_are_kept() {
        let mut known = Known::default();
        known.keep("small", compile("a"), false);
        for number in 0..=LARGE_KEPT {
            known.keep(&format!("large {number}"), compile("a"), true);
        }
        assert!(known.all.contains_key("small"));
        assert!(!known.all.contains_key("large 0"));
        assert_eq!(known.all.len(), 1 + LARGE_KEPT);
    }
}
