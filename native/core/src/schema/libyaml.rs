//! libyaml, as far as bodies need it: events of the first document, and what it says of what is none.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice;

use unsafe_libyaml as unsafe_sys;

pub(super) enum Event {
    /// `plain`: it stands there as it is, without quotes and tag.
    Scalar {
        anchor: Option<String>,
        tag: Option<String>,
        value: String,
        plain: bool,
    },
    Alias(String),
    Sequence(Option<String>),
    Mapping(Option<String>),
    /// Of the sequence or mapping that is open.
    End,
    /// The document is over, or there is none.
    Done,
    Other,
}

pub(super) struct Events<'i> {
    /// In a place of its own: it holds a pointer to itself.
    parser: Box<MaybeUninit<unsafe_sys::yaml_parser_t>>,
    input: PhantomData<&'i [u8]>,
}

impl<'i> Events<'i> {
    pub(super) fn of(input: &'i [u8]) -> Self {
        let mut parser = Box::new(MaybeUninit::<unsafe_sys::yaml_parser_t>::uninit());
        // SAFETY: the parser is initialized before anything else is done with it, and reads `input`, which it outlives
        // by no means.
        unsafe {
            assert!(unsafe_sys::yaml_parser_initialize(parser.as_mut_ptr()).ok, "libyaml had no memory");
            unsafe_sys::yaml_parser_set_input_string(parser.as_mut_ptr(), input.as_ptr(), input.len() as u64);
        }
        Self { parser, input: PhantomData }
    }

    /// With the line that it begins in, counted from 1. Errors are in the words of go-yaml.
    pub(super) fn next(&mut self) -> Result<(Event, u64), String> {
        let mut event = MaybeUninit::<unsafe_sys::yaml_event_t>::uninit();
        // SAFETY: `of` has initialized the parser; it writes an event wherever it succeeds, which is deleted once it has
        // been read. Its texts end with a NUL, values have a length.
        unsafe {
            if !unsafe_sys::yaml_parser_parse(self.parser.as_mut_ptr(), event.as_mut_ptr()).ok {
                return Err(told(&*self.parser.as_ptr()));
            }
            let mut event = event.assume_init();
            let line = event.start_mark.line;
            let of_another_version = is_of_another_version(&event);
            let made = (read(&event), line + 1);
            unsafe_sys::yaml_event_delete(&raw mut event);
            if of_another_version {
                return Err(at(line, "found incompatible YAML document"));
            }
            Ok(made)
        }
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        // SAFETY: `of` has initialized it, and nothing uses it any more.
        unsafe { unsafe_sys::yaml_parser_delete(self.parser.as_mut_ptr()) };
    }
}

/// Whether a directive asks for a YAML that go-yaml v2 does not speak; libyaml takes 1.2, too.
///
/// # Safety
/// `event` is one that libyaml has written and that is not deleted.
unsafe fn is_of_another_version(event: &unsafe_sys::yaml_event_t) -> bool {
    // SAFETY: the type of an event says which of its data there are; the directive is null where there is none.
    unsafe {
        event.type_ == unsafe_sys::YAML_DOCUMENT_START_EVENT
            && event
                .data
                .document_start
                .version_directive
                .as_ref()
                .is_some_and(|version| (version.major, version.minor) != (1, 1))
    }
}

/// # Safety
/// `event` is one that libyaml has written and that is not deleted.
unsafe fn read(event: &unsafe_sys::yaml_event_t) -> Event {
    // SAFETY: the type of an event says which of its data there are.
    unsafe {
        match event.type_ {
            unsafe_sys::YAML_SCALAR_EVENT => {
                let scalar = event.data.scalar;
                let value = slice::from_raw_parts(scalar.value, scalar.length as usize);
                Event::Scalar {
                    anchor: text(scalar.anchor),
                    tag: text(scalar.tag),
                    value: String::from_utf8_lossy(value).into_owned(),
                    plain: scalar.plain_implicit,
                }
            }
            unsafe_sys::YAML_ALIAS_EVENT => Event::Alias(text(event.data.alias.anchor).unwrap_or_default()),
            unsafe_sys::YAML_SEQUENCE_START_EVENT => Event::Sequence(text(event.data.sequence_start.anchor)),
            unsafe_sys::YAML_MAPPING_START_EVENT => Event::Mapping(text(event.data.mapping_start.anchor)),
            unsafe_sys::YAML_SEQUENCE_END_EVENT | unsafe_sys::YAML_MAPPING_END_EVENT => Event::End,
            unsafe_sys::YAML_DOCUMENT_END_EVENT | unsafe_sys::YAML_STREAM_END_EVENT => Event::Done,
            _ => Event::Other,
        }
    }
}

/// # Safety
/// `text` is null, or ends with a NUL.
unsafe fn text(text: *const u8) -> Option<String> {
    // SAFETY: as said above.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text.cast()) }.to_string_lossy().into_owned())
}

/// As go-yaml's `parser.fail`.
fn told(parser: &unsafe_sys::yaml_parser_t) -> String {
    // Lines are counted from 0, and that one is not told; the scanner has not counted the line that it is in.
    let line = match (parser.problem_mark.line, parser.error) {
        (0, _) => parser.context_mark.line,
        (line, unsafe_sys::YAML_SCANNER_ERROR) => line + 1,
        (line, _) => line,
    };
    // SAFETY: what libyaml says of an error is a text of its own, for as long as the program runs.
    let problem = unsafe { text(parser.problem.cast()) };
    at(line, problem.as_deref().unwrap_or("unknown problem parsing YAML content"))
}

fn at(line: u64, problem: &str) -> String {
    if line == 0 { problem.to_owned() } else { format!("line {line}: {problem}") }
}
