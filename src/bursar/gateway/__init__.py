"""Floor 3: the data plane. `_pipeline.py` shows a request's seven stops on one screen."""

from bursar.gateway._admit import Admission, Caller, InvalidApiKey, KeyCaller, MissingCredentials, WrongKindOfKey
from bursar.gateway._attendant import Attendant
from bursar.gateway._budgets import Available, InsufficientCredits, LimitExceeded
from bursar.gateway._budgets import scope_of as limit_scope
from bursar.gateway._counts import Counts, Tally
from bursar.gateway._dispatch import Dispatcher
from bursar.gateway._door import (
    BODY_BYTES_MAX,
    CHOICES_MAX,
    MAX_TOKENS_MAX,
    MODEL_CHARACTERS_MAX,
    MODELS_MAX,
    TEXT_CHARACTERS_MAX,
    BodyTooLarge,
    InvalidRequest,
)
from bursar.gateway._exchange import Exchange, ShuttingDown
from bursar.gateway._funds import DatabaseFunds, Funds, Hold, Intent, Progress, recover_left_holds
from bursar.gateway._health import EndpointHealth
from bursar.gateway._journaled import JournalFunds
from bursar.gateway._leases import Leases, LeaseSizes
from bursar.gateway._limits import ConcurrencyLimits, Overloaded, TooManyAtOnce
from bursar.gateway._live import AccessEnded, Live, SignedOut
from bursar.gateway._look import look_at_journal
from bursar.gateway._node import Node, Seat
from bursar.gateway._order import Condition
from bursar.gateway._performance import Percentiles, Performance
from bursar.gateway._pipeline import SKINS, Gateway
from bursar.gateway._preferences import PRICE_USD_MAX as PREFERRED_PRICE_USD_MAX
from bursar.gateway._preferences import SLUGS_MAX, InvalidPreference
from bursar.gateway._skin_embeddings import DIMENSIONS_MAX, INPUT_TYPE_CHARACTERS_MAX, INPUTS_MAX, TOKEN_MAX
from bursar.gateway._skin_messages_form import FALLBACKS_MAX
from bursar.gateway._skin_responses_form import ITEMS_MAX, METADATA_PAIRS_MAX, METADATA_VALUE_CHARACTERS_MAX
from bursar.gateway._state import JournalState
from bursar.gateway._sticky import StickySessions
from bursar.gateway._tallies import Tallies
from bursar.gateway._uses import Uses
from bursar.gateway._wire import encode, json_refusal
from bursar.gateway.plan import PARAMETERS, EndpointsResting, NoEndpoints, UnknownModel, find_variant

__all__ = [
    "BODY_BYTES_MAX",
    "CHOICES_MAX",
    "DIMENSIONS_MAX",
    "FALLBACKS_MAX",
    "INPUTS_MAX",
    "INPUT_TYPE_CHARACTERS_MAX",
    "ITEMS_MAX",
    "MAX_TOKENS_MAX",
    "METADATA_PAIRS_MAX",
    "METADATA_VALUE_CHARACTERS_MAX",
    "MODELS_MAX",
    "MODEL_CHARACTERS_MAX",
    "PARAMETERS",
    "PREFERRED_PRICE_USD_MAX",
    "SKINS",
    "SLUGS_MAX",
    "TEXT_CHARACTERS_MAX",
    "TOKEN_MAX",
    "AccessEnded",
    "Admission",
    "Attendant",
    "Available",
    "BodyTooLarge",
    "Caller",
    "ConcurrencyLimits",
    "Condition",
    "Counts",
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
    "JournalFunds",
    "JournalState",
    "KeyCaller",
    "LeaseSizes",
    "Leases",
    "LimitExceeded",
    "Live",
    "MissingCredentials",
    "NoEndpoints",
    "Node",
    "Overloaded",
    "Percentiles",
    "Performance",
    "Progress",
    "Seat",
    "ShuttingDown",
    "SignedOut",
    "StickySessions",
    "Tallies",
    "Tally",
    "TooManyAtOnce",
    "UnknownModel",
    "Uses",
    "WrongKindOfKey",
    "encode",
    "find_variant",
    "json_refusal",
    "limit_scope",
    "look_at_journal",
    "recover_left_holds",
]
