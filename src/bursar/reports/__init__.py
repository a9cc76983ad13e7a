"""Floor 3: read-only joins over the rooms' tables, each from one snapshot."""

from bursar.reports.activity_feed import NO_KEY, ActivityFilter, FeedRow, activity_feed, export_rows, feed_row
from bursar.reports.audit_log import AuditRow, audit_actors, audit_export, audit_log
from bursar.reports.billing import Billing, StatementRow, billing
from bursar.reports.console import (
    Installation,
    MoveRow,
    OrganizationRow,
    UserRow,
    deleted_with_credits,
    installation,
    move_rows,
    moves_to_answer,
    page_organizations,
    page_users,
)
from bursar.reports.contexts import ContextEntry, NoSuchContext, contexts_of, resolve_context
from bursar.reports.credits import CreditTotals, credit_totals, has_sandbox_credits
from bursar.reports.journal_export import ExportFormat, ExportRange, NoOwner, export_journal, find_owner
from bursar.reports.key_list import KeyRow, KeyUsage, key_list, key_row, key_usage, key_usages
from bursar.reports.members import (
    InvitationRow,
    MemberRow,
    Members,
    OpenInvitation,
    WaitingInvitation,
    member_and_keys,
    members_of,
    open_invitation,
    waiting_invitations,
)
from bursar.reports.nodes import NodeStanding, WorkerStanding, list_nodes
from bursar.reports.organization import Outline, outline
from bursar.reports.overview import Overview, Share, days_left, overview
from bursar.reports.people import Person, admins_of
from bursar.reports.receipt import Receipt, receipt
from bursar.reports.settlements import Settlement, settlements
from bursar.reports.usage import Period, Usage, UsageBucket, UsageTotals, filter_choices, usage
from bursar.reports.verify import LastCheck, encode_check, last_check, together, told, verify_all, verify_each

__all__ = [
    "NO_KEY",
    "ActivityFilter",
    "AuditRow",
    "Billing",
    "ContextEntry",
    "CreditTotals",
    "ExportFormat",
    "ExportRange",
    "FeedRow",
    "Installation",
    "InvitationRow",
    "KeyRow",
    "KeyUsage",
    "LastCheck",
    "MemberRow",
    "Members",
    "MoveRow",
    "NoOwner",
    "NoSuchContext",
    "NodeStanding",
    "OpenInvitation",
    "OrganizationRow",
    "Outline",
    "Overview",
    "Period",
    "Person",
    "Receipt",
    "Settlement",
    "Share",
    "StatementRow",
    "Usage",
    "UsageBucket",
    "UsageTotals",
    "UserRow",
    "WaitingInvitation",
    "WorkerStanding",
    "activity_feed",
    "admins_of",
    "audit_actors",
    "audit_export",
    "audit_log",
    "billing",
    "contexts_of",
    "credit_totals",
    "days_left",
    "deleted_with_credits",
    "encode_check",
    "export_journal",
    "export_rows",
    "feed_row",
    "filter_choices",
    "find_owner",
    "has_sandbox_credits",
    "installation",
    "key_list",
    "key_row",
    "key_usage",
    "key_usages",
    "last_check",
    "list_nodes",
    "member_and_keys",
    "members_of",
    "move_rows",
    "moves_to_answer",
    "open_invitation",
    "outline",
    "overview",
    "page_organizations",
    "page_users",
    "receipt",
    "resolve_context",
    "settlements",
    "together",
    "told",
    "usage",
    "verify_all",
    "verify_each",
    "waiting_invitations",
]
