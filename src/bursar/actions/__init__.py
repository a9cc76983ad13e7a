"""Floor 3: what people and the operator do. One verb of the product per file.

Each opens the transaction, checks the permission inside it, touches several rooms, writes the audit event, and commits.
"""

from bursar.actions._after import Then
from bursar.actions._departure import Departure
from bursar.actions._invitations import InvitationGone, InviterMayNot, peek_invitation
from bursar.actions._recall import CreditsInUse
from bursar.actions._standing import NoSuchOwner, OperatorOnly, PersonalAccount, enter, require_own_address
from bursar.actions.accept_invitation import (
    InvitedSomebodyElse,
    Joined,
    accept_invitation,
    accept_waiting_invitation,
    join_by_invitation,
)
from bursar.actions.add_member import add_member
from bursar.actions.add_user import add_user, make_sign_in_link, reset_user
from bursar.actions.ask_who_heard import Acknowledged, ask_who_heard
from bursar.actions.become_operator import become_operator, invite_operator
from bursar.actions.buy_credits import PurchasesOff, receive_event, start_purchase
from bursar.actions.change_email import confirm_email_change, request_email_change, undo_email_change
from bursar.actions.change_password import change_password
from bursar.actions.change_role import change_role
from bursar.actions.confirm_identity import confirm_by_link, confirm_identity, mail_proof
from bursar.actions.correct_transfer import (
    NotAnOperator,
    ReasonMissing,
    SecondOperatorNeeded,
    confirm_correction,
    propose_correction,
    withdraw_correction,
)
from bursar.actions.create_organization import create_organization
from bursar.actions.decline_invitation import decline_invitation, decline_waiting_invitation
from bursar.actions.delete_account import AccountStillNeeded, Belongings, belongings, delete_account
from bursar.actions.delete_organization import CreditsLeft, Deleted, delete_organization
from bursar.actions.end_sessions import NoSuchSession, end_other_sessions, end_session_of, sign_out_user
from bursar.actions.forget_ended import forget_ended
from bursar.actions.forget_node import Forgotten, NoSuchNode, forget_node, look_at_node
from bursar.actions.grant_credits import grant_credits
from bursar.actions.invite_members import Invited, InviteOutcome, addresses_in, invite_members
from bursar.actions.leave_organization import leave_organization
from bursar.actions.manage_keys import (
    KeyChanges,
    NotAMember,
    Unchanged,
    create_key,
    delete_key,
    set_key_disabled,
    update_key,
)
from bursar.actions.move_credits import (
    Answer,
    CannotMove,
    NotPersonal,
    answer_credit_move,
    request_credit_move,
    withdraw_credit_move,
)
from bursar.actions.note_check import note_check
from bursar.actions.note_seen import note_seen
from bursar.actions.remove_member import NobodyToHandOverTo, ThatIsYou, remove_member
from bursar.actions.rename_user import rename_user
from bursar.actions.request_reset import request_reset
from bursar.actions.resend_invitation import resend_invitation
from bursar.actions.revoke_invitation import revoke_invitation
from bursar.actions.rotate_key import end_grace, rotate_key
from bursar.actions.second_factor import (
    NoSecondFactor,
    prepare_second_factor,
    renew_recovery_codes,
    reset_second_factor,
    turn_off_second_factor,
    turn_on_second_factor,
)
from bursar.actions.set_limits import Allowing, PersonalBudget, set_budget
from bursar.actions.set_password import set_password
from bursar.actions.set_seats import set_seats
from bursar.actions.settle_organization import NothingToSettle, settle_organization
from bursar.actions.sign_in import InvalidSignIn, SecondFactorNeeded, sign_in, sign_in_by_link, sign_in_second, sign_out
from bursar.actions.sign_up import (
    EmailNotVerified,
    SignUpClosed,
    choose_password_instead,
    resend_verification,
    sign_up,
    verify_email,
)
from bursar.actions.update_organization import update_organization

__all__ = [
    "AccountStillNeeded",
    "Acknowledged",
    "Allowing",
    "Answer",
    "Belongings",
    "CannotMove",
    "CreditsInUse",
    "CreditsLeft",
    "Deleted",
    "Departure",
    "EmailNotVerified",
    "Forgotten",
    "InvalidSignIn",
    "InvitationGone",
    "InviteOutcome",
    "Invited",
    "InvitedSomebodyElse",
    "InviterMayNot",
    "Joined",
    "KeyChanges",
    "NoSecondFactor",
    "NoSuchNode",
    "NoSuchOwner",
    "NoSuchSession",
    "NobodyToHandOverTo",
    "NotAMember",
    "NotAnOperator",
    "NotPersonal",
    "NothingToSettle",
    "OperatorOnly",
    "PersonalAccount",
    "PersonalBudget",
    "PurchasesOff",
    "ReasonMissing",
    "SecondFactorNeeded",
    "SecondOperatorNeeded",
    "SignUpClosed",
    "ThatIsYou",
    "Then",
    "Unchanged",
    "accept_invitation",
    "accept_waiting_invitation",
    "add_member",
    "add_user",
    "addresses_in",
    "answer_credit_move",
    "ask_who_heard",
    "become_operator",
    "belongings",
    "change_password",
    "change_role",
    "choose_password_instead",
    "confirm_by_link",
    "confirm_correction",
    "confirm_email_change",
    "confirm_identity",
    "create_key",
    "create_organization",
    "decline_invitation",
    "decline_waiting_invitation",
    "delete_account",
    "delete_key",
    "delete_organization",
    "end_grace",
    "end_other_sessions",
    "end_session_of",
    "enter",
    "forget_ended",
    "forget_node",
    "grant_credits",
    "invite_members",
    "invite_operator",
    "join_by_invitation",
    "leave_organization",
    "look_at_node",
    "mail_proof",
    "make_sign_in_link",
    "note_check",
    "note_seen",
    "peek_invitation",
    "prepare_second_factor",
    "propose_correction",
    "receive_event",
    "remove_member",
    "rename_user",
    "renew_recovery_codes",
    "request_credit_move",
    "request_email_change",
    "request_reset",
    "require_own_address",
    "resend_invitation",
    "resend_verification",
    "reset_second_factor",
    "reset_user",
    "revoke_invitation",
    "rotate_key",
    "set_budget",
    "set_key_disabled",
    "set_password",
    "set_seats",
    "settle_organization",
    "sign_in",
    "sign_in_by_link",
    "sign_in_second",
    "sign_out",
    "sign_out_user",
    "sign_up",
    "start_purchase",
    "turn_off_second_factor",
    "turn_on_second_factor",
    "undo_email_change",
    "update_key",
    "update_organization",
    "verify_email",
    "withdraw_correction",
    "withdraw_credit_move",
]
