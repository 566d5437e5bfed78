"""Elements of an xml file with their lines."""
from typing import Dict, Iterator, List, NamedTuple, Optional
from xml.parsers import expat

from mmdet_ft.datasets.errors import DataError

DEEPEST = 100  # elements inside each other


class Element(NamedTuple):
    """An element of an xml file."""
    tag: str
    attributes: Dict[str, str]
    line: int
    children: 'List[Element]'
    texts: List[str]

    @property
    def text(self) -> str:
        """Return the text in the element, without surrounding spaces."""
        return ''.join(self.texts).strip()

    def child(self, tag: str) -> 'Optional[Element]':
        """Return the first element of a name directly inside this one."""
        return next((child for child in self.children if child.tag == tag), None)

    def below(self, tag: str) -> 'Iterator[Element]':
        """Yield the elements of a name at any depth, in order."""
        for child in self.children:
            if child.tag == tag:
                yield child
            yield from child.below(tag)


def read_xml(path: str) -> Element:
    """Return the outermost element of an xml file.

    Raises FileNotFoundError, and DataError with path and line for a file that is not complete xml, or that declares
    entities.
    """
    try:
        with open(path, 'rb') as file:
            return parse_xml(file.read(), path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror or error}') from error


def parse_xml(content: bytes, path: str) -> Element:
    """Return the outermost element of xml text; see `read_xml`."""
    builder = _Builder(path)
    try:
        builder.parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(f'{path}:{error.lineno}: not a complete xml file: '
                        f'{expat.ErrorString(error.code)}') from error
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        raise DataError(f'{path} cannot be read: {error}; save it as UTF-8') from error
    return builder.root.children[0]


class _Builder:
    """The handlers of a parser, which build the tree of elements."""

    def __init__(self, path: str):
        self.path = path
        self.root = Element('', {}, 0, [], [])
        self._open = [self.root]
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._entity

    def _start(self, tag: str, attributes: Dict[str, str]) -> None:
        if len(self._open) > DEEPEST:
            raise DataError(
                f'{self.path}:{self.parser.CurrentLineNumber}: its elements are nested too deep')
        element = Element(tag, attributes, self.parser.CurrentLineNumber, [], [])
        self._open[-1].children.append(element)
        self._open.append(element)

    def _end(self, tag: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        self._open[-1].texts.append(text)

    def _entity(self, name: str, *_: object) -> None:
        raise DataError(f'{self.path}:{self.parser.CurrentLineNumber}: it declares the entity '
                        f'{name!r:.60}: annotations have none')
