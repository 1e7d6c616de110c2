from __future__ import annotations

from typing import Any

import pytest

from celery_actors.labels import check_labels, check_selector, example_of, matches, selector_of

CONDITIONS = ["a", "!a", "in(a)", "in(a,b)", "in( a , b-1 )", "!in(a,b)", "a.b_c-1", ""]
NO_CONDITIONS = ["in()", "in(a", "in(a,)", "!", "!!a", "a b", "a,b", "-a", "a-", "in(!a)", "ä"]
NAMES = ["zone", "ray.io/node-id", "a", "A_1"]
NO_NAMES = ["", "zone ", "-zone", "zone/", "größe", "a b"]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_of_rays_is_one(condition: str) -> None:
    check_selector("label_selector", {"zone": condition})


@pytest.mark.parametrize("condition", NO_CONDITIONS)
def test_what_is_no_condition_is_refused_with_what_is_one(condition: str) -> None:
    with pytest.raises(ValueError, match=r"label_selector\['zone'\]=.* write 'value', '!value'"):
        check_selector("label_selector", {"zone": condition})


@pytest.mark.parametrize("check", [check_selector, check_labels])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_a_label_is_one(check: Any, name: str) -> None:
    check("labels", {name: "a"})


@pytest.mark.parametrize("check", [check_selector, check_labels])
@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_of_a_label_is_refused(check: Any, name: str) -> None:
    with pytest.raises(ValueError, match="in labels is no name of a label, such as 'zone'"):
        check("labels", {name: "a"})


@pytest.mark.parametrize("check", [check_selector, check_labels])
def test_labels_are_a_mapping_of_strings(check: Any) -> None:
    with pytest.raises(TypeError, match="labels must be a mapping, not list"):
        check("labels", [("zone", "a")])
    with pytest.raises(TypeError, match="a key of labels must be a string, not int"):
        check("labels", {1: "a"})
    with pytest.raises(TypeError, match=r"labels\['zone'\] must be a string, not int"):
        check("labels", {"zone": 1})


@pytest.mark.parametrize("value", ["a", "a.b_c-1", "A1", ""])
def test_a_value_of_a_label_is_one(value: str) -> None:
    check_labels("labels", {"zone": value})


@pytest.mark.parametrize("value", ["!a", "in(a)", "a b", "-a", "ä"])
def test_what_is_no_value_of_a_label_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"labels\['zone'\]=.* is no value of a label"):
        check_labels("labels", {"zone": value})


def test_a_selector_has_one_order() -> None:
    assert selector_of({"b": "1", "a": "2"}) == (("a", "2"), ("b", "1"))
    assert selector_of(None) == selector_of({}) == ()


@pytest.mark.parametrize(
    ("condition", "value", "met"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        ("!a", "a", False),
        ("!a", "b", True),
        ("!a", None, True),
        ("in(a, b)", "b", True),
        ("in(a, b)", "c", False),
        ("in(a, b)", None, False),
        ("!in(a, b)", "b", False),
        ("!in(a, b)", "c", True),
        ("!in(a, b)", None, True),
        ("", "", True),
        ("", "a", False),
        ("", None, False),
    ],
)
def test_a_condition_is_met_by_the_value_of_a_label(
    condition: str, value: str | None, met: bool
) -> None:
    labels = {"other": "a"} if value is None else {"zone": value}
    assert matches(selector_of({"zone": condition}), labels) is met


def test_every_condition_must_be_met() -> None:
    selector = selector_of({"zone": "a", "disk": "!slow"})
    assert matches(selector, {"zone": "a"})
    assert not matches(selector, {"zone": "a", "disk": "slow"})
    assert not matches(selector, {"zone": "b", "disk": "fast"})
    assert matches((), {})


@pytest.mark.parametrize(
    ("selector", "labels"),
    [
        ({}, {}),
        ({"zone": "a", "disk": "in( b , c )"}, {"zone": "a", "disk": "b"}),
        ({"zone": "!a", "disk": "!in(b)"}, {}),
        ({"zone": ""}, {"zone": ""}),
    ],
)
def test_there_are_labels_that_meet_a_selector(
    selector: dict[str, str], labels: dict[str, str]
) -> None:
    assert example_of(selector_of(selector)) == labels
    assert matches(selector_of(selector), labels)
