"""Who a person is, by Label Studio's session, and what people have changed."""

from taxonomist.backend.web.people.audit_log import AuditEntry, AuditLog
from taxonomist.backend.web.people.pages import PagesOfPeople
from taxonomist.backend.web.people.person import People, Person, Role

__all__ = ["AuditEntry", "AuditLog", "PagesOfPeople", "People", "Person", "Role"]
