"""A choice among prototypes is read as it was saved, and nothing else is read."""

import json
import os
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from sklearn_protopnet.editing._choice import LARGEST_BYTES, LARGEST_NUMBER, Choice

DIGEST = "0123456789abcdef0123456789abcdef"
SAVED = {
    "schema": "sklearn_protopnet.choice",
    "schema_version": 1,
    "model_digest": DIGEST,
    "forbid": [0, 3, 21],
    "keep": [4],
    "names": {"2": "", "10": "naïve \U0001f98a"},
}


def without(*keys):
    return {key: value for key, value in SAVED.items() if key not in keys}


@pytest.fixture
def write(tmp_path):
    """Write bytes, text or JSON to a file."""

    def write(content):
        path = tmp_path / "choice.json"
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def check(choice, digest=DIGEST):
    for numbers, expected in ((choice.forbid, [0, 3, 21]), (choice.keep, [4])):
        assert numbers.dtype == np.int64
        assert numbers.tolist() == expected
    assert list(choice.names.items()) == [(2, ""), (10, "naïve \U0001f98a")]
    assert all(type(j) is int and type(name) is str for j, name in choice.names.items())
    assert choice.model_digest == digest


class TestWhatIsRead:
    @pytest.mark.parametrize("kind", [Path, str])
    @pytest.mark.parametrize("is_ascii", [False, True])
    def test_a_file(self, write, kind, is_ascii):
        check(Choice.read(kind(write(json.dumps(SAVED, ensure_ascii=is_ascii)))))

    def test_a_byte_order_mark_says_nothing(self, write):
        check(Choice.read(write(b"\xef\xbb\xbf" + json.dumps(SAVED).encode())))

    def test_the_order_of_keys_and_numbers_says_nothing(self, write):
        shuffled = {**SAVED, "forbid": [21, 0, 3], "names": {"10": "naïve \U0001f98a", "2": ""}}
        check(Choice.read(write(dict(reversed(shuffled.items())))))

    def test_nothing_may_be_chosen(self, write):
        choice = Choice.read(write({**SAVED, "forbid": [], "keep": [], "names": {}}))
        assert (choice.forbid.tolist(), choice.keep.tolist(), choice.names) == ([], [], {})
        assert choice.forbid.dtype == choice.keep.dtype == np.int64

    def test_the_largest_number_and_the_longest_name(self, write):
        names = {str(LARGEST_NUMBER): 200 * "\U0001f98a"}
        choice = Choice.read(write({**SAVED, "forbid": [LARGEST_NUMBER], "names": names}))
        assert choice.forbid.tolist() == [LARGEST_NUMBER]
        assert choice.names == {LARGEST_NUMBER: 200 * "\U0001f98a"}

    def test_a_file_of_the_largest_size(self, write):
        text = json.dumps(SAVED)
        check(Choice.read(write(text + " " * (LARGEST_BYTES - len(text)))))

    @pytest.mark.parametrize("kind", [dict, OrderedDict])
    def test_a_mapping(self, kind):
        given = kind(SAVED)
        check(Choice.read(given))
        assert given == SAVED

    def test_a_mapping_written_by_hand(self):
        names = {np.int64(10): np.str_("naïve \U0001f98a"), 2: ""}
        given = {**SAVED, "forbid": np.array([3, 21, 0]), "keep": (4,), "names": names}
        check(Choice.read(given))
        check(Choice.read({**given, "model_digest": None}), None)
        del given["model_digest"]
        check(Choice.read(given), None)


SCHEMA = "must have the schema 'sklearn_protopnet.choice', found "
VERSION = "must have the schema's version 1, found "
KEYS = "schema, schema_version, model_digest, forbid, keep, names, found "
NUMBER = "must have numbers of prototypes, integers from 0 on, in "
FAULTS = {
    "schema": ({**SAVED, "schema": "sklearn_protopnet.report"}, SCHEMA + "'sklearn_protopnet.rep"),
    "no schema": (without("schema"), SCHEMA + "None"),
    "a list as schema": ({**SAVED, "schema": [SAVED["schema"]]}, SCHEMA + r"\['sklearn"),
    "version": ({**SAVED, "schema_version": 2}, VERSION + "2"),
    "true as version": ({**SAVED, "schema_version": True}, VERSION + "True"),
    "a fraction as version": ({**SAVED, "schema_version": 1.0}, VERSION + r"1\.0"),
    "no version": (without("schema_version"), VERSION + "None"),
    "a missing key": (
        without("keep", "names"),
        f"must have the keys {KEYS}none named keep, names",
    ),
    "an unknown key": ({**SAVED, "allow": [1]}, rf"must have no keys but {KEYS}\['allow'\]"),
    "a number as digest": (
        {**SAVED, "model_digest": 5},
        "the digest of its model as text, found 5",
    ),
    "no text as digest": (
        {**SAVED, "model_digest": ""},
        "the digest of its model as text, found ''",
    ),
    "text as numbers": (
        {**SAVED, "forbid": "12"},
        "must list numbers of prototypes as 'forbid', found '12'",
    ),
    "one number": ({**SAVED, "keep": 4}, "must list numbers of prototypes as 'keep', found 4"),
    "an object as numbers": (
        {**SAVED, "keep": {"4": 1}},
        "must list numbers of prototypes as 'keep', found {",
    ),
    "a fraction": ({**SAVED, "forbid": [1.0]}, NUMBER + r"'forbid', found 1\.0"),
    "a number as text": ({**SAVED, "keep": ["1"]}, NUMBER + "'keep', found '1'"),
    "true": ({**SAVED, "forbid": [True]}, NUMBER + "'forbid', found True"),
    "null": ({**SAVED, "forbid": [None]}, NUMBER + "'forbid', found None"),
    "a list of lists": ({**SAVED, "forbid": [[1]]}, NUMBER + r"'forbid', found \[1\]"),
    "a negative number": ({**SAVED, "keep": [-1]}, NUMBER + "'keep', found -1"),
    "a large number": ({**SAVED, "keep": [2**63]}, NUMBER + "'keep', found 9223372036854775808"),
    "a repeated number": (
        {**SAVED, "forbid": [5, 1, 5]},
        r"must have numbers of 'forbid' once each, found \[5\] more than once",
    ),
    "both": (
        {**SAVED, "keep": [3, 4, 0]},
        r"must not both forbid and keep a prototype, found \[0, 3\] in both",
    ),
    "a list of names": (
        {**SAVED, "names": ["eye"]},
        r"must have names by numbers of prototypes, found \['eye'\]",
    ),
    **{
        f"{key!r} as number of a name": (
            {**SAVED, "names": {key: "eye"}},
            NUMBER + f"'names', found {re.escape(repr(key))}",
        )
        for key in ("-1", "01", "+1", " 1", "1.0", "1e3", "", "eye", "\u0663", "\u00b2")
    },
    "a large number of a name": (
        {**SAVED, "names": {str(2**63): "eye"}},
        NUMBER + "'names', found 9223372036854775808",
    ),
    "a far too large number of a name": (
        {**SAVED, "names": {5000 * "9": "eye"}},
        NUMBER + "'names', found '99",
    ),
    "a number as name": (
        {**SAVED, "names": {"7": 7}},
        "must name prototypes by text, found 7 for prototype 7",
    ),
    "null as name": ({**SAVED, "names": {"7": None}}, "must name prototypes by text, found None"),
    "a long name": (
        {**SAVED, "names": {"7": 201 * "x"}},
        "must have names of 200 characters at most, found 201 for prototype 7",
    ),
    **{
        f"{character!r} in a name": (
            {**SAVED, "names": {"7": f"a{character}b"}},
            "must have names without control characters or halves of surrogate pairs, found "
            + re.escape(f"{f'a{character}b'!r} for prototype 7"),
        )
        for character in ("\0", "\t", "\n", "\x1b", "\x7f", "\x85", "\udcef")
    },
}
TEXTS = {
    "nothing": ("", "must be JSON, found what is none: Expecting value"),
    "half of it": (json.dumps(SAVED)[:40], "must be JSON, found what is none: Unterminated"),
    "more after it": (json.dumps(SAVED) + "{}", "must be JSON, found what is none: Extra data"),
    "a list": ("[1, 2]", r"must be a JSON object, found \[1, 2\]"),
    "null": ("null", "must be a JSON object, found None"),
    "another encoding": (
        json.dumps(SAVED, ensure_ascii=False).encode("latin-1", "replace"),
        "must be text in UTF-8, found invalid continuation byte at byte ",
    ),
    "UTF-16": (
        json.dumps(SAVED).encode("utf-16"),
        "must be text in UTF-8, found invalid start byte",
    ),
    "many levels": (100_000 * "[", "must be JSON of few levels, found too many"),
    "a repeated key": (
        json.dumps(SAVED)[:-1] + ', "forbid": []}',
        r"must have keys once each, found \['forbid'\] more than once",
    ),
    "a repeated name": (
        json.dumps(SAVED).replace('"10"', '"2"'),
        r"must have keys once each, found \['2'\] more than once",
    ),
    "a number of many digits": (
        json.dumps(SAVED).replace("[4]", f"[{5000 * '9'}]"),
        NUMBER + "'keep', found inf",
    ),
    "many digits as a name": (
        json.dumps(SAVED).replace('""', 5000 * "9"),
        "must name prototypes by text, found inf for prototype 2",
    ),
    "no number": (json.dumps(SAVED).replace("[4]", "[NaN]"), NUMBER + "'keep', found nan"),
    "no digest": (
        json.dumps(without("model_digest")),
        f"must have the keys {KEYS}none named model_digest",
    ),
    "null as digest": (
        json.dumps({**SAVED, "model_digest": None}),
        "must name the digest of its model as text, found null",
    ),
    "a large file": (
        json.dumps(SAVED) + LARGEST_BYTES * " ",
        "must have 10,000,000 bytes at most, found more",
    ),
}


class TestWhatIsRefused:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_faults(self, write, fault):
        given, message = FAULTS[fault]
        path = write(given)
        with pytest.raises(
            ValueError, match=f"^The choice in {re.escape(repr(str(path)))} .*{message}"
        ):
            Choice.read(path)
        with pytest.raises(ValueError, match=f"^The choice must .*{message.removeprefix('must ')}"):
            Choice.read(given)

    @pytest.mark.parametrize("fault", TEXTS)
    def test_files(self, write, fault):
        content, message = TEXTS[fault]
        path = write(content)
        with pytest.raises(
            ValueError, match=f"^The choice in {re.escape(repr(str(path)))} {message}"
        ):
            Choice.read(path)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"names": {7: "a", "7": "b"}}, r"numbers of 'names' once each, found \[7\]"),
            ({"names": {True: "a"}}, NUMBER + "'names', found True"),
            ({"names": {-1: "a"}}, NUMBER + "'names', found -1"),
            ({"names": {b"7": "a"}}, NUMBER + "'names', found b'7'"),
            ({"forbid": np.array([1.0])}, NUMBER + "'forbid', found "),
            ({"forbid": np.array([True])}, NUMBER + "'forbid', found "),
            ({"forbid": np.array(7)}, r"numbers of prototypes as 'forbid', found array\(7"),
            ({"forbid": np.array([[1]])}, NUMBER + "'forbid', found "),
            ({"forbid": b"12"}, "must list numbers of prototypes as 'forbid', found b'12'"),
            ({1: 2}, rf"must have no keys but {KEYS}\[1\]"),
            ({"schema": np.array([SAVED["schema"]])}, SCHEMA),
        ],
    )
    def test_mappings_that_no_file_holds(self, changed, message):
        with pytest.raises(ValueError, match=f"^The choice .*{message}"):
            Choice.read({**SAVED, **changed})

    @pytest.mark.parametrize("given", [5, None, [SAVED], b"choice.json"])
    def test_what_is_neither_path_nor_mapping(self, given):
        with pytest.raises(TypeError, match="choice must be a path or a mapping, got "):
            Choice.read(given)

    def test_no_file(self, tmp_path):
        path = tmp_path / "choice.json"
        with pytest.raises(FileNotFoundError, match=re.escape(f"There is no file {str(path)!r}.")):
            Choice.read(path)

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
    def test_no_regular_file(self, tmp_path, make):
        path = tmp_path / "choice.json"
        make(path)
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))}' must be a regular file"):
            Choice.read(path)
