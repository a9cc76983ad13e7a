"""Floor 3: the data plane. `_pipeline.py` shows a request's seven stops on one screen."""

from bursar.gateway._admit import Admission, Caller, InvalidApiKey, KeyCaller, MissingCredentials, WrongKindOfKey
from bursar.gateway._dispatch import Dispatcher
from bursar.gateway._door import BODY_BYTES_MAX, BodyTooLarge, InvalidRequest
from bursar.gateway._exchange import Exchange
from bursar.gateway._funds import DatabaseFunds, Funds, Hold, InsufficientCredits, Intent, recover_holds
from bursar.gateway._health import EndpointHealth
from bursar.gateway._limits import ConcurrencyLimits, Overloaded, TooManyAtOnce
from bursar.gateway._order import Condition
from bursar.gateway._pipeline import Gateway
from bursar.gateway._preferences import InvalidPreference
from bursar.gateway._sticky import StickySessions
from bursar.gateway._wire import encode, json_refusal
from bursar.gateway.plan import EndpointsResting, NoEndpoints, UnknownModel

__all__ = [
    "BODY_BYTES_MAX",
    "Admission",
    "BodyTooLarge",
    "Caller",
    "ConcurrencyLimits",
    "Condition",
    "DatabaseFunds",
    "Dispatcher",
    "EndpointHealth",
    "EndpointsResting",
    "Exchange",
    "Funds",
    "Gateway",
    "Hold",
    "InsufficientCredits",
    "Intent",
    "InvalidApiKey",
    "InvalidPreference",
    "InvalidRequest",
    "KeyCaller",
    "MissingCredentials",
    "NoEndpoints",
    "Overloaded",
    "StickySessions",
    "TooManyAtOnce",
    "UnknownModel",
    "WrongKindOfKey",
    "encode",
    "json_refusal",
    "recover_holds",
]
