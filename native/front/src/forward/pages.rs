//! HTML pages of a backend, whose links are told as the client reaches them, while they come. After apimachinery
//! `pkg/util/proxy/transport.go` (`rewriteResponse`), which has the whole page first.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use http_body::Body;
use lol_html::html_content::Element;
use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{MemorySettings, element};
use parking_lot::Mutex;

use super::links::Links;
use crate::body::BodyError;

/// What is read at once: unpacked it may be a thousand times as much.
const SLICE: usize = 4096;
/// Of a tag that does not end, and of elements within each other. What comes after more goes as it is.
const MOST_HELD: usize = 1 << 20;

/// Which attributes of an element are links; none of most.
fn links_of(element: &str) -> &'static [&'static str] {
    match element {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

/// How a page is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Deflate,
}

/// A page that can be read is one whose links can be told.
fn packing(headers: &HeaderMap) -> Option<Packing> {
    let told = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = told(header::CONTENT_TYPE)?.split(';').next()?.trim();
    if kind != "text/html" {
        return None;
    }
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"") => Some(Packing::None),
        Some(b"gzip") => Some(Packing::Gzip),
        Some(b"deflate") => Some(Packing::Deflate),
        Some(_) => None,
    }
}

/// What a rewriter makes goes to a place that is ours, too.
#[derive(Clone, Default)]
struct Made(Arc<Mutex<Vec<u8>>>);

impl Made {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock())
    }
}

impl lol_html::OutputSink for Made {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.lock().extend_from_slice(chunk);
    }
}

/// None: what comes goes as it is, since there was too much of it to be looked at.
struct Html(Option<HtmlRewriter<'static, Made>>, Made);

impl Html {
    fn new(links: Links, made: Made) -> Self {
        let memory = MemorySettings::new()
            .with_max_allowed_memory_usage(MOST_HELD)
            .with_graceful_bail_out_on_memory_limit_exceeded(true);
        let tell = element!("*", move |element: &mut Element<'_, '_, _>| {
            for name in links_of(&element.tag_name()) {
                if let Some(seen) = element.get_attribute(name).and_then(|told| links.seen(&told)) {
                    element.set_attribute(name, &seen)?;
                }
            }
            Ok(())
        });
        let settings = Settings::new_send()
            .append_element_content_handler(tell)
            .with_memory_settings(memory)
            .with_graceful_bail_out_on_content_handler_error(true)
            .with_strict(false);
        Self(Some(HtmlRewriter::new(settings, made.clone())), made)
    }
}

impl Write for Html {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            None => self.1.0.lock().extend_from_slice(bytes),
            Some(rewriter) => {
                if rewriter.write(bytes).is_err() {
                    self.0 = None; // it has told all that has come
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Something between what has come and the page that is written to.
trait Unpacking: Write + Send {
    /// All has come.
    fn end(self: Box<Self>) -> io::Result<()>;
}

impl Unpacking for Html {
    fn end(self: Box<Self>) -> io::Result<()> {
        let _ = self.0.map(HtmlRewriter::end);
        Ok(())
    }
}

impl Unpacking for MultiGzDecoder<Html> {
    fn end(self: Box<Self>) -> io::Result<()> {
        Box::new(self.finish()?).end()
    }
}

impl Unpacking for ZlibDecoder<Html> {
    fn end(self: Box<Self>) -> io::Result<()> {
        Box::new(self.finish()?).end()
    }
}

impl Unpacking for DeflateDecoder<Html> {
    fn end(self: Box<Self>) -> io::Result<()> {
        Box::new(self.finish()?).end()
    }
}

/// `first`: of what has come. It says whether it is packed in zlib's format, as the protocol has it, or without, as many
/// servers do.
fn unpacking(packing: Packing, first: u8, html: Html) -> Box<dyn Unpacking> {
    match packing {
        Packing::None => Box::new(html),
        Packing::Gzip => Box::new(MultiGzDecoder::new(html)),
        Packing::Deflate if first & 0x0f == 8 => Box::new(ZlibDecoder::new(html)),
        Packing::Deflate => Box::new(DeflateDecoder::new(html)),
    }
}

enum State {
    /// Nothing has come.
    New(Packing, Links),
    Within(Box<dyn Unpacking>),
    Ended,
}

/// The body of a page, unpacked, with links as the client reaches them.
pub struct Page<B> {
    backend: B,
    state: State,
    /// What has come and was not read.
    unread: Bytes,
    made: Made,
}

impl<B> Page<B> {
    /// The page of an answer, whose headers are to tell of it from now on; the body again of one that is none, or is
    /// packed in a way that we do not know.
    pub fn of(headers: &mut HeaderMap, backend: B, links: impl FnOnce() -> Links) -> Result<Self, B> {
        let Some(packing) = packing(headers) else { return Err(backend) };
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::CONTENT_ENCODING);
        Ok(Self { backend, state: State::New(packing, links()), unread: Bytes::new(), made: Made::default() })
    }

    fn read(&mut self) -> io::Result<()> {
        let slice = self.unread.split_to(self.unread.len().min(SLICE));
        let Some(first) = slice.first() else { return Ok(()) };
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::New(packing, links) => {
                State::Within(unpacking(packing, *first, Html::new(links, self.made.clone())))
            }
            other => other,
        };
        match &mut self.state {
            State::Within(unpacking) => unpacking.write_all(&slice),
            State::New(..) | State::Ended => Ok(()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Within(unpacking) => unpacking.end(),
            State::New(..) | State::Ended => Ok(()),
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        Some(Bytes::from(self.made.take())).filter(|made| !made.is_empty())
    }
}

impl<B> Page<B>
where
    B: Body<Data = Bytes> + Unpin,
    BodyError: From<B::Error>,
{
    /// The next piece.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            while !self.unread.is_empty() {
                if let Err(error) = self.read() {
                    return Poll::Ready(Some(Err(BodyError::Page(error))));
                }
                if let Some(piece) = self.next() {
                    return Poll::Ready(Some(Ok(piece)));
                }
            }
            if matches!(self.state, State::Ended) {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.backend).poll_frame(cx)) {
                Some(Ok(frame)) => self.unread = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    let ended = self.end().map_err(BodyError::Page);
                    return Poll::Ready(ended.map(|()| self.next()).transpose());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use http_body::Frame;

    use super::*;

    /// What a backend sends, piece by piece.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn links() -> Links {
        let backend = ["10.1.2.3:8080".to_owned(), "10.1.2.3".to_owned()];
        Links { prefix: "/prefix".into(), backend, asked: "api:6443".into() }
    }

    fn headers(kind: &'static str, packed: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("1"));
        if !packed.is_empty() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(packed));
        }
        headers
    }

    fn pieces(page: &mut Page<Pieces>) -> Result<Vec<Bytes>, BodyError> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut found = Vec::new();
        loop {
            match page.poll_piece(&mut cx) {
                Poll::Ready(Some(piece)) => found.push(piece?),
                Poll::Ready(None) => return Ok(found),
                Poll::Pending => unreachable!("all has come"),
            }
        }
    }

    fn told(packed: &'static str, bytes: &[u8], size: usize) -> Result<String, BodyError> {
        let mut headers = headers("text/html; charset=utf-8", packed);
        let sent = Pieces(bytes.chunks(size).map(Bytes::copy_from_slice).collect());
        let mut page = Page::of(&mut headers, sent, links).map_err(|_| ()).unwrap();
        assert!(
            !headers.contains_key(header::CONTENT_LENGTH) && !headers.contains_key(header::CONTENT_ENCODING)
        );
        pieces(&mut page).map(|pieces| String::from_utf8(pieces.concat()).unwrap())
    }

    fn rewritten(page: &str) -> String {
        let whole = told("", page.as_bytes(), usize::MAX).unwrap();
        assert_eq!(told("", page.as_bytes(), 1).unwrap(), whole, "byte by byte");
        whole
    }

    #[test]
    fn links_of_a_page_lead_through_the_proxy() {
        let page = r#"<pre><a href="kubelet.log">kubelet.log</a><a href="/google.log/">google.log</a></pre>"#;
        let seen =
            r#"<pre><a href="kubelet.log">kubelet.log</a><a href="/prefix/google.log/">google.log</a></pre>"#;
        assert_eq!(rewritten(page), seen);
        assert_eq!(rewritten("<img src='/a.png'/>"), r#"<img src="/prefix/a.png" />"#);
        assert_eq!(
            rewritten(r#"<object data="/d" usemap="/u" id="/i">"#),
            r#"<object data="/prefix/d" usemap="/prefix/u" id="/i">"#
        );
        assert_eq!(
            rewritten(r#"<a href="/?a=1&amp;b=2&quot;">"#),
            r#"<a href="/prefix/?a=1&amp;b=2&quot;">"#
        );
    }

    #[test]
    fn what_is_no_link_stays_as_it_is_written() {
        for page in [
            "<!doctype html><P CLASS = x>/path <b title='/t'>1 < 2</P>",
            "<script>document.write('<a href=\"/x\">')</script>",
            "<!-- <a href=\"/x\"> --><textarea><a href=\"/x\"></textarea>",
            "<a src=\"/x\" href=\"https://elsewhere.example/\">",
            "<a href=\"/unfinished",
        ] {
            assert_eq!(rewritten(page), page);
        }
    }

    #[test]
    fn a_page_comes_piece_by_piece_as_it_is_sent() {
        let sent = Pieces([r#"<a href="/1">"#, r#"<a href="/2">"#].map(Bytes::from).into());
        let mut page = Page::of(&mut headers("text/html", ""), sent, links).map_err(|_| ()).unwrap();
        let found = pieces(&mut page).unwrap();
        assert_eq!(found, [r#"<a href="/prefix/1">"#, r#"<a href="/prefix/2">"#]);
    }

    #[test]
    fn a_packed_page_is_unpacked() {
        fn packed<W: Write>(mut encoder: W, end: fn(W) -> io::Result<Vec<u8>>) -> Vec<u8> {
            encoder.write_all(b"<a href=\"/1\">").unwrap();
            end(encoder).unwrap()
        }
        let fast = Compression::fast();
        for (kind, bytes) in [
            ("gzip", packed(GzEncoder::new(Vec::new(), fast), GzEncoder::finish)),
            ("deflate", packed(ZlibEncoder::new(Vec::new(), fast), ZlibEncoder::finish)),
            ("deflate", packed(DeflateEncoder::new(Vec::new(), fast), DeflateEncoder::finish)),
        ] {
            assert_eq!(told(kind, &bytes, 3).unwrap(), r#"<a href="/prefix/1">"#, "{kind}");
        }
        assert!(told("gzip", b"no such thing", 100).is_err());
    }

    #[test]
    fn what_is_packed_very_well_is_told_in_pieces() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        (0..1000).for_each(|_| encoder.write_all(&[b' '; 64 * 1024]).unwrap());
        let packed = encoder.finish().unwrap();
        let sent = Pieces([Bytes::from(packed)].into());
        let mut page = Page::of(&mut headers("text/html", "gzip"), sent, links).map_err(|_| ()).unwrap();
        let found = pieces(&mut page).unwrap();
        assert_eq!(found.iter().map(Bytes::len).sum::<usize>(), 1000 * 64 * 1024);
        assert!(found.iter().all(|piece| piece.len() <= 2000 * SLICE));
    }

    #[test]
    fn a_tag_that_does_not_end_is_not_held_for_ever() {
        let page = format!("<a href=\"/{}\">", "x".repeat(2 * MOST_HELD));
        assert_eq!(told("", page.as_bytes(), 64 * 1024).unwrap(), page);
    }

    #[test]
    fn other_answers_are_left_alone() {
        for (kind, packed) in [("text/plain", ""), ("application/json", ""), ("text/html", "br")] {
            let mut headers = headers(kind, packed);
            assert!(Page::of(&mut headers, Pieces(VecDeque::new()), links).is_err(), "{kind}");
            assert!(headers.contains_key(header::CONTENT_LENGTH));
        }
    }
}
