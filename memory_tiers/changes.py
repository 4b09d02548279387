"""What operators ask for while all goes on: where an expert shall be, who is configured, how much fits."""

from dataclasses import replace

from memory_tiers.books import Books
from memory_tiers.budget import check_members
from memory_tiers.endings import Endings
from memory_tiers.errors import OrderRefused
from memory_tiers.events import BudgetsSet, ExpertAdded, Family, Member
from memory_tiers.residents import ExpertRecord
from memory_tiers.tiers import Tier, TiersConfig


class Changes:
    """``may_...`` says beforehand what would be refused, and changes nothing."""

    def __init__(self, books: Books, config: TiersConfig, endings: Endings) -> None:
        self._books = books
        self._config = config
        self._endings = endings

    def __repr__(self) -> str:
        return f"<Changes to {len(self._books.experts)} experts>"

    def may_order(self, name: str, tier: Tier) -> None:
        """Raises OrderRefused."""
        expert = self._record(name)
        if expert.pinned and tier != "device":
            raise OrderRefused(f"expert {name} is pinned to the device: unpin it first")
        too_large = expert.weights_bytes > self._books.host.capacity
        if tier == "host" and too_large and expert.device.presence == "absent":
            raise OrderRefused(
                f"expert {name} has {expert.weights_bytes:,} bytes, over tiers.host of "
                f"{self._books.host.capacity:,}: raise the budget, or order it to disk"
            )

    def may_cancel(self, name: str) -> None:
        """Raises OrderRefused."""
        expert = self._record(name)
        if expert.pinned:
            raise OrderRefused(f"expert {name} is pinned to the device: unpin it first")
        loading = "arriving" in (expert.device.presence, expert.host.presence)
        if expert.device.presence == "present" or not (expert.needed or loading):
            raise OrderRefused(f"expert {name} is not being loaded")

    def may_have(
        self,
        *members: Member,
        family: Family | None = None,
        device: int | None = None,
        host: int | None = None,
    ) -> None:
        """Whether experts may be as ``members`` say, added or changed, and budgets as given. Raises
        BudgetTooSmall."""
        books = self._books
        known = {record.name: _member(record) for record in books.experts.values() if not record.removed}
        families = [
            Family(engine.family, engine.resident_limit, engine.held) for engine in books.engines.values()
        ]
        config = self._config.model_copy(
            update={
                "device": books.device.capacity if device is None else device,
                "host": books.host.capacity if host is None else host,
            }
        )
        wanted = {**known, **{member.name: member for member in members}}
        check_members(config, list(wanted.values()), [*families, *([family] if family else [])])

    def member(self, name: str, *, pinned: bool | None = None) -> Member:
        """As it is now, apart from ``pinned`` if given. Raises OrderRefused."""
        record = self._record(name)
        return _member(record) if pinned is None else replace(_member(record), pinned=pinned)

    def _record(self, name: str) -> ExpertRecord:
        expert = self._books.experts.get(name)
        if expert is None or expert.removed:
            raise OrderRefused(f"there is no expert {name}")
        return expert

    def order(self, expert: ExpertRecord, tier: Tier) -> None:
        books = self._books
        books.obeyed(expert)
        expert.stuck, expert.failure = False, ""
        books.rank(expert)
        if tier != "device":
            books.order(expert, tier, "operator")
        elif expert.device.presence != "present":
            expert.ordered = "device"
            self._load(expert)

    def cancel(self, expert: ExpertRecord) -> None:
        """A read from disk ends, ordered or not; a load that an engine has begun ends too, and gives its
        memory back."""
        books = self._books
        if expert.ordered == "host":
            books.obeyed(expert)
        books.reject(
            expert, "load_cancelled", f"the load of expert {expert.name} was cancelled by an operator"
        )
        if expert.device.presence == "arriving":
            expert.cancelled = True
        books.abort_reading(expert)

    def change(self, member: Member) -> None:
        books, expert = self._books, self._books.experts[member.name]
        expert.pinned, expert.default, expert.ttl_s = member.pinned, member.default, member.ttl_s
        if expert.pinned:
            books.obeyed(expert)
            self._load(expert)
        elif not expert.waiting:
            books.unwant(expert)
        books.rank(expert)

    def _load(self, expert: ExpertRecord) -> None:
        """For whoever wants it there now, not only if there is room; what failed before says nothing now."""
        expert.restored, expert.failure = False, ""
        self._books.want(expert)

    def add(self, event: ExpertAdded) -> None:
        books = self._books
        if event.family is not None:
            books.add_engine(event.family)
        expert = books.add(event.member)
        if event.family is not None:
            self._endings.want_engine(expert.engine)
        if expert.pinned or expert.default:
            books.want(expert)

    def remove(self, expert: ExpertRecord) -> None:
        books = self._books
        expert.removed = True
        expert.pinned = expert.default = False
        if not expert.waiting:
            books.unwant(expert)
        books.rank(expert)
        books.order(expert, "disk", "removed")

    def set_budgets(self, event: BudgetsSet) -> None:
        self._books.device.resize(event.device)
        self._books.host.resize(event.host)


def _member(record: ExpertRecord) -> Member:
    return Member(
        record.name,
        record.engine.family,
        record.weights_bytes,
        record.pinned,
        record.default,
        record.ttl_s,
    )
