"""Documents: XML read as it is pushed in, into values as boto3 names them, by the model.

The problem: a document of 2 MiB can have 100,000 elements. A tree of them takes many times its text, and to read it whole keeps everybody
else waiting. The idea: no tree. Each element is looked up in the model when it begins, and passed over if the model does not know it; what
is wrong is refused at once. The caller decides how much to push in at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from proxy.s3.errors import S3Error
from proxy.s3.model import Document, Items, Node, Scalar, Structure
from proxy.s3.values import read_value

_MAX_ITEMS = 10_000  # of one list: the parts of an upload, the longest that S3 takes
_MAX_DEPTH = 32  # S3's own has 8
_MAX_TOKEN_BYTES = 64 * 1024  # of one tag with its attributes: all of them are looked at together
_MAX_NAMESPACE = 256  # characters; S3's own has 39
# Older SDKs call the document as they call its shape or its member, and AWS takes that.
_OTHER_ROOTS = {"CompleteMultipartUpload": ("CompletedMultipartUpload", "MultipartUpload")}
_MALFORMED = {"AccessControlPolicy": "MalformedACLError"}  # where S3 calls it something else

_Take = Callable[[object], None]


class DocumentReader:
    """Reads one document. Raises MalformedXML for what is none: also a document type, so there are no entities, and nothing is fetched."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._pushed_bytes = 0
        self._text = bytearray()
        self._builder = _Builder(document.root, document.content)
        self._parser = DefusedXMLParser(forbid_dtd=True, target=self._builder)
        self._parser.parser.StartNamespaceDeclHandler = _check_namespace

    def feed(self, data: bytes) -> None:
        """Take the next bytes. The work is linear in them."""
        if isinstance(self._document.content, Scalar):  # bare text
            self._text += data
            return
        self._pushed_bytes += len(data)
        try:
            self._parser.feed(data)
            if self._pushed_bytes - self._parser.parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
                raise S3Error("MalformedXML")
        except (ParseError, DefusedXmlException, ValueError, LookupError, S3Error) as error:
            self._builder.drop()
            raise self._malformed() from error

    def finish(self) -> dict[str, object]:
        """Declare the document over; return the parameters it stands for."""
        value = self._finish()
        if self._document.member is not None:
            return {self._document.member: value}
        return value if isinstance(value, dict) else {}

    def _finish(self) -> object:
        if isinstance(self._document.content, Scalar):
            return _bare_text(self._text)
        try:
            self._parser.close()
        except (ParseError, DefusedXmlException, ValueError, S3Error) as error:
            raise self._malformed() from error
        return self._builder.taken()

    def _malformed(self) -> S3Error:
        return S3Error(_MALFORMED.get(self._document.root, "MalformedXML"))


class _Builder:
    """Takes the parser's events, and keeps the values of the elements that are open."""

    def __init__(self, root: str, content: Node) -> None:
        self.value: object = None
        self._root = root
        self._content = content
        self._open: list[_Structure | _Items | _Scalar] = []
        self._depth_passed_over = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._depth_passed_over:
            self._pass_over()
            return
        name = _local(tag)
        if not self._open:
            self._check_root(name)
            self._begin(self._content, attributes, self._keep)
            return
        found = self._open[-1].child(name)
        if found is None:
            self._pass_over()
        else:
            self._begin(found[0], attributes, found[1])

    def end(self, _tag: str) -> None:
        if self._depth_passed_over:
            self._depth_passed_over -= 1
        else:
            self._open.pop().end()

    def data(self, text: str) -> None:
        if not self._depth_passed_over and self._open:
            self._open[-1].text(text)

    def close(self) -> None:
        """Be told by the parser that there is no more."""

    def drop(self) -> None:
        """Let go of the values: the parser and what it calls are a cycle, which stays for a while."""
        self._open.clear()
        self.value = None

    def taken(self) -> object:
        """Return the value of the root, and keep none."""
        value = self.value
        self.drop()
        return value

    def _check_root(self, name: str) -> None:
        if name != self._root and name not in _OTHER_ROOTS.get(self._root, ()):
            raise S3Error("MalformedXML")

    def _begin(self, content: Node, attributes: Mapping[str, str], take: _Take) -> None:
        if isinstance(content, Structure):
            self._open.append(_Structure(content, attributes, take))
        elif isinstance(content, Items):
            self._open.append(_Items(content, take))
        else:
            self._open.append(_Scalar(content, take))

    def _pass_over(self) -> None:
        self._depth_passed_over += 1
        if self._depth_passed_over > _MAX_DEPTH:
            raise S3Error("MalformedXML")

    def _keep(self, value: object) -> None:
        self.value = value


class _Structure:
    """An open element with members. Those the model does not know are passed over; one given twice is refused, as it has two meanings."""

    def __init__(self, content: Structure, attributes: Mapping[str, str], take: _Take) -> None:
        self._content = content
        self._take = take
        self._result: dict[str, object] = {}
        for name, text in attributes.items() if content.attributes else ():
            attribute = content.attributes.get(_local(name))
            if attribute is not None:
                self._result[attribute.name] = text

    def child(self, name: str) -> tuple[Node, _Take] | None:
        member = self._content.members.get(name)
        if member is None:
            return None
        if member.flattened and isinstance(member.content, Items):
            items = self._result.setdefault(member.name, [])
            assert isinstance(items, list)
            return member.content.item, _bounded(items)
        if member.name in self._result:
            raise S3Error("MalformedXML")
        return member.content, lambda value: self._result.__setitem__(member.name, value)

    def text(self, text: str) -> None:
        """White space, as a rule."""

    def end(self) -> None:
        if not self._content.required <= self._result.keys():
            raise S3Error("MalformedXML")
        self._take(self._result)


class _Items:
    """An open list."""

    def __init__(self, content: Items, take: _Take) -> None:
        self._content = content
        self._take = take
        self._items: list[object] = []

    def child(self, name: str) -> tuple[Node, _Take]:
        if name != self._content.wire:
            raise S3Error("MalformedXML")
        return self._content.item, _bounded(self._items)

    def text(self, text: str) -> None:
        """White space, as a rule."""

    def end(self) -> None:
        self._take(self._items)


class _Scalar:
    """An open element with text."""

    def __init__(self, content: Scalar, take: _Take) -> None:
        self._kind = content.kind
        self._take = take
        self._pieces: list[str] = []

    def child(self, _name: str) -> None:
        raise S3Error("MalformedXML")

    def text(self, text: str) -> None:
        self._pieces.append(text)

    def end(self) -> None:
        text = "".join(self._pieces)
        try:
            self._take(text if self._kind == "string" else read_value(self._kind, text.strip()))
        except (ValueError, OverflowError) as error:
            raise S3Error("MalformedXML") from error


def _bounded(items: list[object]) -> _Take:
    if len(items) == _MAX_ITEMS:
        raise S3Error("MalformedXML")
    return items.append


def _check_namespace(_prefix: str | None, uri: str | None) -> None:
    """Refuse a long namespace: the parser copies it for every element it holds for, so 1 MiB of them takes half a minute."""
    if uri is not None and len(uri) > _MAX_NAMESPACE:
        raise ValueError(uri[:_MAX_NAMESPACE])


def _bare_text(body: bytes | bytearray) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error("InvalidRequest", "The body is not UTF-8") from None


def _local(tag: str) -> str:
    """Return a name without its namespace, which clients may leave out."""
    return tag.rpartition("}")[2]
