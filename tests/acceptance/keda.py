"""What KEDA's objects may have: of their custom resource definitions the parts that deploy/ uses.

Written from the specifications of ``keda.sh/v1alpha1`` in KEDA's documentation (2.x: ScaledObject,
TriggerAuthentication, the scaler "Redis Lists"). They allow more; what else is used here is to be
looked up there first.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SCHEMAS"]

Schema = dict[str, Any]

_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string", "minLength": 1}


def _object(required: str, **properties: Any) -> Schema:
    return {
        "type": "object", "additionalProperties": False, "required": required.split(),
        "properties": properties,
    }  # fmt: skip


def _kind(kind: str, spec: Schema) -> Schema:
    return _object(
        "apiVersion kind metadata spec", apiVersion={"const": "keda.sh/v1alpha1"},
        kind={"const": kind}, metadata={"type": "object", "required": ["name"]}, spec=spec,
    )  # fmt: skip


#: As in autoscaling/v2: HPAScalingRules, HPAScalingPolicy.
_RULES = _object(
    "",
    selectPolicy={"enum": ["Max", "Min", "Disabled"]},
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    policies={"type": "array", "minItems": 1, "items": _object(
        "type value periodSeconds", type={"enum": ["Pods", "Percent"]},
        value={"type": "integer", "minimum": 1},
        periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800},
    )},
)  # fmt: skip

#: A trigger's settings are texts, numbers too.
_REDIS = _object(
    "address listName listLength", address={"type": "string", "pattern": "^[^:/]+:[0-9]+$"},
    listName=_TEXT, listLength={"type": "string", "pattern": "^[1-9][0-9]*$"},
    activationListLength={"type": "string", "pattern": "^[0-9]+$"},
)  # fmt: skip

SCHEMAS: dict[str, Schema] = {
    "ScaledObject": _kind("ScaledObject", _object(
        "scaleTargetRef triggers",
        scaleTargetRef=_object("name", name=_TEXT, kind=_TEXT, apiVersion=_TEXT),
        pollingInterval=_COUNT, cooldownPeriod=_COUNT, minReplicaCount=_COUNT,
        maxReplicaCount=_COUNT,
        advanced=_object("", horizontalPodAutoscalerConfig=_object(
            "", behavior=_object("", scaleDown=_RULES, scaleUp=_RULES)
        )),
        triggers={"type": "array", "minItems": 1, "items": _object(
            "type metadata", type={"const": "redis"}, metadata=_REDIS,
            authenticationRef=_object(
                "name", name=_TEXT, kind={"enum": ["TriggerAuthentication"]}
            ),
        )},
    )),
    "TriggerAuthentication": _kind("TriggerAuthentication", _object(
        "secretTargetRef",
        secretTargetRef={"type": "array", "minItems": 1, "items": _object(
            "parameter name key", parameter={"enum": ["username", "password"]}, name=_TEXT,
            key=_TEXT,
        )},
    )),
}  # fmt: skip
